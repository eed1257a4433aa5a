// The official TypeScript SDK 1.x.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { drive } from "./driving.mjs";
import { probed } from "./typescript_sdk.mjs";

function transport(where) {
  if (where.transport === "stdio") {
    const [command, ...args] = where.command;
    return new StdioClientTransport({ command, args, env: { ...process.env, ...where.env } });
  }
  const requestInit = { headers: where.headers };
  const url = new URL(where.url);
  return where.transport === "http"
    ? new StreamableHTTPClientTransport(url, { requestInit })
    : new SSEClientTransport(url, { requestInit });
}

await drive(async (where) => {
  const client = new Client({ name: "suite", version: "1" });
  await client.connect(transport(where));
  return probed(client);
});
