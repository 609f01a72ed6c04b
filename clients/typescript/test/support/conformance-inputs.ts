import { randomBytes } from "node:crypto";
import {
  CLIENT_CAPABILITIES_META_KEY,
  createRequestStateCodec,
  inputRequired,
  type McpServer,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { z } from "zod";

/** Seals the state of calls with several rounds. */
export const states = createRequestStateCodec<string>({ key: randomBytes(32) });

const said = (content: string) => ({ content: [{ type: "text" as const, text: content }] });
const elicit = (message: string, schema: Parameters<typeof z.object>[0]) =>
  inputRequired.elicit({ message, requestedSchema: z.object(schema) as never });
const sample = (question: string) =>
  inputRequired.createMessage({
    messages: [{ role: "user", content: { type: "text", text: question } }],
    maxTokens: 100,
  });

const name = () => elicit("What is your name?", { name: z.string() });

/** The capabilities that the client declared with a request. */
function declaredBy({ mcpReq }: ServerContext): object {
  const envelope = mcpReq.envelope as Readonly<Record<string, object | undefined>> | undefined;
  return envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {};
}

/** The accepted content of an elicitation. */
function accepted({ mcpReq }: ServerContext, key: string): Readonly<Record<string, unknown>> | undefined {
  return (mcpReq.inputResponses?.[key] as { content?: Record<string, unknown> } | undefined)?.content;
}

/** Adds the tools and the prompt that need input of the client, in the revision without sessions. */
export function addInputTools(server: McpServer): void {
  const tool = (
    suffix: string,
    call: (context: ServerContext) => Promise<ReturnType<typeof inputRequired> | ReturnType<typeof said>>,
  ): void => {
    server.registerTool(`test_input_required_result_${suffix}`, { description: suffix }, call as never);
  };
  const has = ({ mcpReq }: ServerContext, ...keys: string[]): boolean =>
    keys.every((key) => mcpReq.inputResponses?.[key] !== undefined);

  tool("elicitation", async (context) => {
    const given = accepted(context, "user_name")?.name;
    if (typeof given === "string") return said(`Hello, ${given}!`);
    return inputRequired({ inputRequests: { user_name: name() } });
  });
  tool("sampling", async (context) => {
    if (has(context, "capital_question")) return said(JSON.stringify(context.mcpReq.inputResponses));
    return inputRequired({ inputRequests: { capital_question: sample("What is the capital of France?") } });
  });
  tool("list_roots", async (context) => {
    if (has(context, "client_roots")) return said(JSON.stringify(context.mcpReq.inputResponses));
    return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
  });
  for (const suffix of ["request_state", "tampered_state"])
    tool(suffix, async (context) => {
      if (has(context, "confirm") && context.mcpReq.requestState<string>() === suffix)
        return said("state-ok");
      const confirm = elicit("Please confirm", { ok: z.boolean() });
      return inputRequired({ inputRequests: { confirm }, requestState: await states.mint(suffix, context) });
    });
  tool("multiple_inputs", async (context) => {
    if (has(context, "user_name", "greeting", "client_roots")) return said("complete");
    const inputRequests = {
      user_name: name(),
      greeting: sample("Generate a greeting"),
      client_roots: inputRequired.listRoots(),
    };
    return inputRequired({ inputRequests, requestState: await states.mint("inputs", context) });
  });
  tool("multi_round", async (context) => {
    const round = context.mcpReq.requestState<string>();
    if (round === "2" && has(context, "step2")) return said("complete");
    if (round === "1" && has(context, "step1")) {
      const step2 = elicit("Step 2: What is your favorite color?", { color: z.string() });
      return inputRequired({ inputRequests: { step2 }, requestState: await states.mint("2", context) });
    }
    const step1 = elicit("Step 1: What is your name?", { name: z.string() });
    return inputRequired({ inputRequests: { step1 }, requestState: await states.mint("1", context) });
  });
  tool("capabilities", async (context) => {
    const declared = declaredBy(context);
    const inputRequests = {
      ...("sampling" in declared ? { question: sample("What is the capital of France?") } : {}),
      ...("elicitation" in declared ? { user_name: name() } : {}),
    };
    return Object.keys(inputRequests).length === 0
      ? said("nothing to ask")
      : inputRequired({ inputRequests });
  });
  // The SDK rejects the question if the client has not declared that it answers such.
  server.registerTool("test_missing_capability", { description: "needs sampling" }, (async () =>
    inputRequired({ inputRequests: { question: sample("Is sampling declared?") } })) as never);
  server.registerTool("test_streaming_elicitation", { description: "asks for a name" }, (async (
    context: ServerContext,
  ) =>
    has(context, "user_name")
      ? said("complete")
      : inputRequired({ inputRequests: { user_name: name() } })) as never);
  server.registerPrompt("test_input_required_result_prompt", { description: "asks" }, (async (
    context: ServerContext,
  ) => {
    const given = accepted(context, "user_context")?.context;
    if (given === undefined) {
      const user_context = elicit("What context should the prompt use?", { context: z.string() });
      return inputRequired({ inputRequests: { user_context } });
    }
    return { messages: [{ role: "user", content: { type: "text", text: `With the context ${given}` } }] };
  }) as never);
}
