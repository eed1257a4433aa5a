// The official TypeScript SDK 2.x, by the handshake that is its default, or as 2026-07-28 has it ("auto").

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
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

const mode = process.argv[2] ?? "legacy";
await drive(async (where) => {
  const client = new Client({ name: "suite", version: "1" }, { versionNegotiation: { mode } });
  await client.connect(transport(where));
  return probed(client);
});
