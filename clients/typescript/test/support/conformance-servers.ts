import { completable, McpServer, ResourceTemplate } from "@modelcontextprotocol/server";
import { z } from "zod";
import { addInputTools, states } from "./conformance-inputs.js";

const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

const text = (content: string) => ({ type: "text" as const, text: content });
const image = { type: "image" as const, data: PIXEL, mimeType: "image/png" };
const said = (...content: string[]) => ({ content: content.map(text) });
const resource = (uri: string, mimeType: string, content: string) => ({
  type: "resource" as const,
  resource: { uri, mimeType, text: content },
});

/** A server with everything that the conformance suite calls. */
export function conformanceServer(): McpServer {
  const server = new McpServer(
    { name: "fixtures", version: "1.0.0" },
    {
      capabilities: { logging: {}, resources: { subscribe: true } },
      requestState: { verify: states.verify },
    },
  );
  addTools(server);
  addAskingTools(server);
  addInputTools(server);
  addResources(server);
  addPrompts(server);
  return server;
}

function addTools(server: McpServer): void {
  const tool = (name: string, ...content: object[]): void => {
    server.registerTool(name, { description: name }, () => ({ content }) as never);
  };
  const embedded = resource(
    "test://embedded-resource",
    "text/plain",
    "This is an embedded resource content.",
  );
  const mixed = resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}');
  tool("test_simple_text", text("This is a simple text response for testing."));
  tool("test_image_content", image);
  tool("test_audio_content", { type: "audio", data: SILENCE, mimeType: "audio/wav" });
  tool("test_embedded_resource", embedded);
  tool("test_multiple_content_types", text("Multiple content types test:"), image, mixed);
  server.registerTool("test_error_handling", { description: "fails" }, () => {
    throw new Error("This tool intentionally returns an error for testing");
  });
  for (const name of ["test_tool_with_logging", "test_logging_tool"])
    server.registerTool(name, { description: name }, async ({ mcpReq }) => {
      for (const step of ["Tool execution started", "Tool processing data", "Tool execution completed"])
        await mcpReq.log("info", step);
      return said("logged");
    });
  server.registerTool("test_tool_with_progress", { description: "reports progress" }, async ({ mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of progressToken === undefined ? [] : [0, 50, 100])
      await mcpReq.notify({
        method: "notifications/progress",
        params: { progressToken, progress, total: 100 },
      });
    return said("done");
  });
  const region = z.object({ region: z.string().meta({ "x-mcp-header": "Region" }) });
  server.registerTool("test_region", { description: "has a header", inputSchema: region }, (given) =>
    said(given.region),
  );
}

/** Tools that ask the client on the stream of the call, in the revisions with sessions. */
function addAskingTools(server: McpServer): void {
  const prompt = z.object({ prompt: z.string() });
  server.registerTool(
    "test_sampling",
    { description: "samples", inputSchema: prompt },
    async (given, { mcpReq }) => {
      const messages = [{ role: "user" as const, content: text(given.prompt) }];
      const { content } = await mcpReq.requestSampling({ messages, maxTokens: 100 });
      return said(`LLM response: ${(content as { text?: string }).text}`);
    },
  );
  const elicit = (name: string, before: string, properties: object, required: string[] = []): void => {
    const input = z.object({ message: z.string().default("Please answer") });
    server.registerTool(name, { description: name, inputSchema: input }, async ({ message }, { mcpReq }) => {
      const requestedSchema = { type: "object", properties, required } as never;
      const { action, content } = await mcpReq.elicitInput({ message, requestedSchema });
      return said(`${before}: action=${action}, content=${JSON.stringify(content ?? {})}`);
    });
  };
  const answer = { type: "string", description: "An answer" };
  elicit("test_elicitation", "User response", { username: answer, email: answer }, ["username", "email"]);
  elicit("test_elicitation_sep1034_defaults", "Elicitation completed", {
    name: { type: "string", default: "John Doe" },
    age: { type: "integer", default: 30 },
    score: { type: "number", default: 95.5 },
    status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
    verified: { type: "boolean", default: true },
  });
  const plain = { type: "string", enum: ["option1", "option2", "option3"] };
  const titled = ["First", "Second", "Third"].map((title, at) => ({ const: `value${at + 1}`, title }));
  elicit("test_elicitation_sep1330_enums", "Elicitation completed", {
    untitledSingle: plain,
    titledSingle: { type: "string", oneOf: titled },
    legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["One", "Two", "Three"] },
    untitledMulti: { type: "array", items: plain },
    titledMulti: { type: "array", items: { anyOf: titled } },
  });
}

function addResources(server: McpServer): void {
  const add = (name: string, mimeType: string, content: object): void => {
    const uri = `test://${name}`;
    const contents = [{ uri, mimeType, ...content }] as never;
    server.registerResource(name, uri, { description: name, mimeType }, () => ({ contents }));
  };
  add("static-text", "text/plain", { text: "This is the content of the static text resource." });
  add("static-binary", "image/png", { blob: PIXEL });
  add("watched-resource", "text/plain", { text: "watched" });
  const template = new ResourceTemplate("test://template/{id}/data", { list: undefined });
  const mimeType = "application/json";
  server.registerResource("template", template, { description: "A template", mimeType }, (uri, { id }) => ({
    contents: [
      {
        uri: uri.href,
        mimeType,
        text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }),
      },
    ],
  }));
  server.server.setRequestHandler("resources/subscribe", () => ({}));
  server.server.setRequestHandler("resources/unsubscribe", () => ({}));
}

function addPrompts(server: McpServer): void {
  const asked = (...content: object[]) => ({
    messages: content.map((one) => ({ role: "user" as const, content: one as never })),
  });
  server.registerPrompt("test_simple_prompt", { description: "simple" }, () =>
    asked(text("This is a simple prompt for testing.")),
  );
  server.registerPrompt("test_prompt_with_image", { description: "with an image" }, () =>
    asked(image, text("Please analyze the image above.")),
  );
  const argument = completable(z.string(), (value) =>
    ["paris", "park"].filter((one) => one.startsWith(value)),
  );
  const two = z.object({ arg1: argument, arg2: z.string() });
  server.registerPrompt(
    "test_prompt_with_arguments",
    { description: "with arguments", argsSchema: two },
    ({ arg1, arg2 }) => asked(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
  );
  const embedded = z.object({ resourceUri: z.string() });
  server.registerPrompt(
    "test_prompt_with_embedded_resource",
    { description: "with a resource", argsSchema: embedded },
    ({ resourceUri }) =>
      asked(
        resource(resourceUri, "text/plain", "Embedded resource content for testing."),
        text("Please process the embedded resource above."),
      ),
  );
}
