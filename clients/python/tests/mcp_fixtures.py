"""The tools, resources and prompts that the MCP conformance suite calls."""

from __future__ import annotations

import base64
import json
from typing import Any

from mcp.server.mcpserver import Audio, Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
WAV = base64.b64decode("UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=")
FIXTURE = "A fixture of the MCP conformance suite."
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def embedded(uri: str, kind: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text))


def asks(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def samples(question: str) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=question))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


def answer_to(context: Context, key: str, field: str) -> str | None:
    """Returns a field of what the user has entered, if that is valid."""
    given = (context.input_responses or {}).get(key)
    content = given.content if isinstance(given, ElicitResult) else None
    value = (content or {}).get(field)
    return value if isinstance(value, str) else None


def register(server: MCPServer) -> None:
    register_content(server)
    register_requests(server)
    register_input_required(server)
    register_resources(server)
    register_prompts(server)


def register_content(server: MCPServer) -> None:
    @server.tool(description=FIXTURE)
    async def test_simple_text() -> str:
        return "This is a simple text response for testing."

    @server.tool(description=FIXTURE)
    async def test_image_content() -> Image:
        return Image(data=PNG, format="png")

    @server.tool(description=FIXTURE)
    async def test_audio_content() -> Audio:
        return Audio(data=WAV, format="wav")

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_embedded_resource() -> EmbeddedResource:
        return embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_multiple_content_types() -> list[Any]:
        text = json.dumps({"test": "data", "value": 123})
        resource = embedded("test://mixed-content-resource", "application/json", text)
        return ["Multiple content types test:", Image(data=PNG, format="png"), resource]

    @server.tool(description=FIXTURE)
    async def test_error_handling() -> str:
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool(description=FIXTURE)
    async def test_tool_with_logging(ctx: Context) -> str:
        for step in ("started", "processing", "completed"):
            await ctx.info(f"Tool execution {step}")
        return "logged"

    @server.tool(description=FIXTURE)
    async def test_logging_tool(ctx: Context) -> str:
        await ctx.info("This is logged only if the client asks for it")
        return "logged"

    @server.tool(description=FIXTURE)
    async def test_tool_with_progress(ctx: Context) -> str:
        for step in (0, 50, 100):
            await ctx.report_progress(step, 100, f"Completed step {step} of 100")
        return "done"


def register_requests(server: MCPServer) -> None:
    """Tools that ask the client, in the handshake revisions, and tools that change the server."""

    @server.tool(description=FIXTURE)
    async def test_sampling(prompt: str, ctx: Context) -> str:
        message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        result = await ctx.session.create_message(
            [message], max_tokens=100, related_request_id=ctx.request_context.request_id
        )
        return f"LLM response: {result.content.text if isinstance(result.content, TextContent) else ''}"

    async def elicit(ctx: Context, message: str, properties: dict[str, Any], *required: str) -> str:
        schema = {"type": "object", "properties": properties, "required": list(required)}
        result = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_context.request_id)
        return f"action={result.action}, content={json.dumps(result.content or {})}"

    @server.tool(description=FIXTURE)
    async def test_elicitation(message: str, ctx: Context) -> str:
        properties = {"response": {"type": "string", "description": "User's response"}}
        return await elicit(ctx, message, properties, "response")

    @server.tool(description=FIXTURE)
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        properties = {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
        return await elicit(ctx, "Please review the form", properties)

    @server.tool(description=FIXTURE)
    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        options = ["option1", "option2", "option3"]
        titled = [{"const": f"value{number}", "title": f"Choice {number}"} for number in (1, 2, 3)]
        names = ["Option One", "Option Two", "Option Three"]
        properties = {
            "untitledSingle": {"type": "string", "enum": options},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": names},
            "untitledMulti": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": options}},
            "titledMulti": {"type": "array", "minItems": 1, "items": {"anyOf": titled}},
        }
        return await elicit(ctx, "Please select", properties)

    @server.tool(description=FIXTURE)
    async def test_missing_capability(ctx: Context) -> str:
        if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
            raise MCPError(-32021, "Missing required client capability", {"requiredCapabilities": {"sampling": {}}})
        return "sampling is declared"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_streaming_elicitation(ctx: Context) -> Any:
        await ctx.report_progress(1, 2)
        name = answer_to(ctx, "user_name", "name")
        return f"Hello, {name}!" if name else InputRequiredResult(input_requests={"user_name": asks("Name?", NAME)})

    @server.tool(description=FIXTURE)
    async def test_trigger_tool_change(ctx: Context) -> str:
        await ctx.notify_tools_changed()
        return "changed"

    @server.tool(description=FIXTURE)
    async def test_trigger_prompt_change(ctx: Context) -> str:
        await ctx.notify_prompts_changed()
        return "changed"


def register_input_required(server: MCPServer) -> None:
    """Tools that ask the client, in the stateless revisions."""

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_elicitation(ctx: Context) -> Any:
        name = answer_to(ctx, "user_name", "name")
        if name is None:
            return InputRequiredResult(input_requests={"user_name": asks("What is your name?", NAME)})
        return f"Hello, {name}!"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_sampling(ctx: Context) -> Any:
        if not ctx.input_responses:
            question = samples("What is the capital of France?")
            return InputRequiredResult(input_requests={"capital_question": question})
        return "The client has answered"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_list_roots(ctx: Context) -> Any:
        if not ctx.input_responses:
            return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
        return "The client has roots"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_request_state(ctx: Context) -> Any:
        if ctx.request_state != "confirmation":
            schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
            confirm = asks("Please confirm", schema)
            return InputRequiredResult(input_requests={"confirm": confirm}, request_state="confirmation")
        return "state-ok"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_tampered_state(ctx: Context) -> Any:
        return await test_input_required_result_request_state(ctx)

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_multiple_inputs(ctx: Context) -> Any:
        if ctx.request_state != "several":
            requests: Any = {
                "user_name": asks("What is your name?", NAME),
                "greeting": samples("Generate a greeting"),
                "client_roots": ListRootsRequest(),
            }
            return InputRequiredResult(input_requests=requests, request_state="several")
        return "All answers are there"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_multi_round(ctx: Context) -> Any:
        if ctx.request_state is None:
            step = asks("Step 1: What is your name?", NAME)
            return InputRequiredResult(input_requests={"step1": step}, request_state="1")
        if ctx.request_state == "1":
            schema = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
            step = asks("Step 2: What is your favorite color?", schema)
            return InputRequiredResult(input_requests={"step2": step}, request_state="2")
        return "Both steps are done"

    @server.tool(description=FIXTURE, structured_output=False)
    async def test_input_required_result_capabilities(ctx: Context) -> Any:
        declared = ctx.client_capabilities
        requests: Any = {}
        if declared is not None and declared.sampling is not None:
            requests["greeting"] = samples("Generate a greeting")
        if declared is not None and declared.elicitation is not None:
            requests["user_name"] = asks("What is your name?", NAME)
        return InputRequiredResult(input_requests=requests) if requests else "The client has no capabilities"


def register_resources(server: MCPServer) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    async def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    async def static_binary() -> bytes:
        return PNG

    @server.resource("test://watched-resource", mime_type="text/plain")
    async def watched() -> str:
        return "Watched resource content"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    async def template(id: str) -> str:  # noqa: A002
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def register_prompts(server: MCPServer) -> None:
    @server.prompt(description=FIXTURE)
    async def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @server.prompt(description=FIXTURE)
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(description=FIXTURE)
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803
        resource = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(content=resource), UserMessage(content="Please process the embedded resource above.")]

    @server.prompt(description=FIXTURE)
    async def test_prompt_with_image() -> list[UserMessage]:
        image = ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")
        return [UserMessage(content=image), UserMessage(content="Please analyze the image above.")]

    @server.prompt(description=FIXTURE)
    async def test_input_required_result_prompt(ctx: Context) -> Any:
        text = answer_to(ctx, "user_context", "context")
        if text is None:
            schema = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
            asked = asks("What context should the prompt use?", schema)
            return InputRequiredResult(input_requests={"user_context": asked})
        return f"The context is {text}"

    @server.completion()  # type: ignore[no-untyped-call,untyped-decorator]
    async def complete(_reference: Any, _argument: Any, _context: Any) -> Completion:
        return Completion(values=[], total=0, has_more=False)
