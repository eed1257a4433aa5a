// What the drivers of both official TypeScript SDKs share: their clients have the same methods.

import { reading, textOf } from "./driving.mjs";

export function probed(client) {
  return {
    tools: async () => Object.fromEntries((await client.listTools()).tools.map((tool) => [tool.name, tool.inputSchema])),
    call: async (name, given) => {
      const result = await client.callTool({ name, arguments: given });
      if (result.isError) throw new Error(textOf(result));
      return result.structuredContent ?? reading(textOf(result));
    },
    refusal: async (name, given) => {
      try {
        const result = await client.callTool({ name, arguments: given });
        return result.isError ? textOf(result) : `not refused: ${textOf(result)}`;
      } catch (error) {
        return String(error); // what an agent puts before its model then
      }
    },
    resources: async () => (await client.listResources()).resources.map((each) => each.uri),
    templates: async () => (await client.listResourceTemplates()).resourceTemplates.map((each) => each.uriTemplate),
    read: async (uri) => (await client.readResource({ uri })).contents.map((each) => each.text).join("\n"),
    prompts: async () => (await client.listPrompts()).prompts.map((each) => each.name),
    prompt: async (name, given) => {
      const { messages } = await client.getPrompt({ name, arguments: given });
      return messages.map(({ content }) => content.text ?? content.resource?.text ?? "").join("\n");
    },
  };
}
