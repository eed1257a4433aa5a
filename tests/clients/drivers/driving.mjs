// What the drivers of Node.js clients share; the dialogue is that of driving.py.

import { createInterface } from "node:readline";

const CALL_SECONDS = 15;
const PAUSE_SECONDS = 0.5;
const STEP_SECONDS = 240;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const tell = (step, what = {}) => process.stdout.write(JSON.stringify({ step, ...what }) + "\n");
for (const level of ["log", "info", "debug", "warn"]) console[level] = console.error; // stdout is for the dialogue

export function reading(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error(`no JSON object: ${text.slice(0, 400)}`);
  }
  return found;
}

export const textOf = (result) => result.content.map((each) => each.text ?? each.resource?.text ?? "").join("\n");

function within(seconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function restartAndCall(client, job) {
  tell("restart");
  if ((await lines.next()).done) throw new Error("nobody restarts the server");
  const failures = [];
  const limit = Date.now() + job.patience * 1000;
  while (Date.now() < limit) {
    try {
      return { answer: await within(CALL_SECONDS, client.call(job.after_restart.tool, job.after_restart.arguments)), failures };
    } catch (error) {
      failures.push(String(error));
      await new Promise((resolve) => setTimeout(resolve, PAUSE_SECONDS * 1000));
    }
  }
  return { answer: null, failures };
}

async function each(entries, key, work) {
  const found = {};
  for (const entry of entries) found[entry[key]] = await work(entry);
  return found;
}

async function prompts(client, job) {
  const texts = {};
  const failed = {};
  for (const { name, arguments: given } of job.prompts) {
    try {
      texts[name] = await client.prompt(name, given);
    } catch (error) {
      failed[name] = String(error);
    }
  }
  return { listed: await client.prompts(), texts, failed };
}

async function resources(client, job) {
  const texts = {};
  for (const uri of await client.resources()) texts[uri] = await client.read(uri);
  return { texts, templates: client.templates ? await client.templates() : null, text: await client.read(job.resource) };
}

const STEPS = [
  ["tools", "tools", (client) => client.tools()],
  ["answers", "call", (client, job) => each(job.calls, "label", (one) => client.call(one.tool, one.arguments))],
  ["refusals", "refusal", (client, job) => each(job.refusals, "label", (one) => client.refusal(one.tool, one.arguments))],
  ["resources", "read", resources],
  ["prompts", "prompt", prompts],
  ["after", "call", restartAndCall],
];

// `connect` takes where to connect to, and resolves to an object with the methods that driving.py names.
export async function drive(connect) {
  const job = JSON.parse((await lines.next()).value);
  try {
    const client = await within(STEP_SECONDS, connect(job.connect));
    for (const [step, method, work] of STEPS) {
      if (!client[method]) {
        tell(step, { absent: true });
        continue;
      }
      try {
        tell(step, { value: await within(STEP_SECONDS, work(client, job)) });
      } catch (error) {
        console.error(error);
        tell(step, { failed: String(error) });
      }
    }
  } catch (error) {
    console.error(error);
    tell("connect", { failed: String(error) });
  }
  tell("end");
  process.stdout.write("", () => process.exit(0));
}
