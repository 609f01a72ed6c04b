//! A server with the tools, resources and prompts that the conformance suite of MCP asks for.
#![allow(deprecated, reason = "the suite tests what later revisions deprecate")]

mod rounds;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities,
        CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock, CreateMessageRequestParams,
        ElicitRequestParams, GetPromptRequestParams, GetPromptResponse, GetPromptResult, ListPromptsResult,
        ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel,
        LoggingMessageNotificationParam, PaginatedRequestParams, ProgressNotificationParam,
        ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, SamplingMessage,
        ServerCapabilities, ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
        Tool, UnsubscribeRequestParams,
    },
    service::{RequestContext, SubscriptionContext, SubscriptionSink},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const DATA: &str = include_str!("fixtures/fixtures.json");
const LIST_TTL_MS: u64 = 60_000;

type Context = RequestContext<RoleServer>;

/// The server. Clones share the subscriptions.
#[derive(Clone)]
pub(super) struct Fixtures {
    data: Arc<Value>,
    subscriptions: Arc<Mutex<Vec<SubscriptionSink>>>,
}

impl Fixtures {
    pub(super) fn new() -> Self {
        Self { data: Arc::new(serde_json::from_str(DATA).unwrap()), subscriptions: Arc::default() }
    }

    fn read<T: DeserializeOwned>(&self, section: &str) -> T {
        serde_json::from_value(self.data[section].clone()).unwrap()
    }

    /// Returns an entry of a section, with arguments put in.
    fn entry<T: DeserializeOwned>(&self, section: &str, name: &str, arguments: &Value) -> Option<T> {
        let mut text = self.data[section].get(name)?.to_string();
        for (name, value) in arguments.as_object().into_iter().flatten() {
            text = text.replace(&format!("{{{name}}}"), value.as_str().unwrap_or_default());
        }
        Some(serde_json::from_str(&text).unwrap())
    }

    fn subscriptions(&self) -> Vec<SubscriptionSink> {
        self.subscriptions.lock().unwrap().clone()
    }

    async fn ask_user(&self, name: &str, arguments: &Value, context: &Context) -> String {
        let asked: HashMap<String, Value> = self.entry("elicitations", name, &json!({})).unwrap();
        let message = arguments["message"].as_str().or(asked["message"].as_str()).unwrap_or_default();
        let params = ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: message.to_owned(),
            requested_schema: serde_json::from_value(asked["requestedSchema"].clone()).unwrap(),
        };
        match context.peer.create_elicitation(params).await {
            Ok(answer) => serde_json::to_string(&answer).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    async fn ask_model(arguments: &Value, context: &Context) -> String {
        let prompt = SamplingMessage::user_text(arguments["prompt"].as_str().unwrap_or_default());
        match context.peer.create_message(CreateMessageRequestParams::new(vec![prompt], 100)).await {
            Ok(answer) => serde_json::to_string(&answer).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    async fn log(level: LoggingLevel, text: &str, context: &Context) {
        let message = LoggingMessageNotificationParam::new(level, json!(text)).with_logger("fixtures");
        _ = context.peer.notify_logging_message(message).await;
    }

    /// Does what a tool does besides its result.
    async fn act(&self, name: &str, context: &Context) -> Result<(), ErrorData> {
        match name {
            "test_tool_with_logging" => {
                for text in ["Started", "Processing", "Completed"] {
                    Self::log(LoggingLevel::Info, text, context).await;
                }
            }
            "test_logging_tool" => {
                if let Some(level) = context.meta.log_level() {
                    Self::log(level, "Asked for", context).await;
                }
            }
            "test_tool_with_progress" => {
                for progress in [0.0, 50.0, 100.0] {
                    if let Some(token) = context.meta.get_progress_token() {
                        let progress = ProgressNotificationParam::new(token, progress).with_total(100.0);
                        _ = context.peer.notify_progress(progress).await;
                    }
                }
            }
            "test_trigger_tool_change" => {
                for subscription in self.subscriptions() {
                    _ = subscription.notify_tool_list_changed().await;
                }
            }
            "test_trigger_prompt_change" => {
                for subscription in self.subscriptions() {
                    _ = subscription.notify_prompt_list_changed().await;
                }
            }
            "test_missing_capability" => {
                let capabilities = context.meta.client_capabilities().unwrap_or_default();
                if capabilities.sampling.is_none() {
                    let missing = ClientCapabilities::builder().enable_sampling().build();
                    return Err(ErrorData::missing_required_client_capability(missing));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text.into())])
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed();
        ServerConfig::new(capabilities.build())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.read::<Vec<Tool>>("tools").into_iter().find(|tool| tool.name == name)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        let list = ListToolsResult { tools: self.read("tools"), ..Default::default() };
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.as_ref();
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        if rounds::has_rounds(name) {
            let capabilities = context.meta.client_capabilities();
            let (answers, state) = (request.input_responses.as_ref(), request.request_state.as_deref());
            return Ok(match rounds::next(name, answers, state, capabilities.as_ref())? {
                Ok(done) => text(done).into(),
                Err(required) => required.into(),
            });
        }
        self.act(name, &context).await?;
        let result = match name {
            "test_sampling" => Some(text(Self::ask_model(&arguments, &context).await)),
            "test_custom_header" => Some(text(arguments["value"].as_str().unwrap_or_default())),
            _ if self.data["elicitations"].get(name).is_some() => {
                Some(text(self.ask_user(name, &arguments, &context).await))
            }
            _ => self.entry("results", name, &json!({})),
        };
        let unknown = || ErrorData::invalid_params(format!("Unknown tool: {name}"), None);
        result.map(Into::into).ok_or_else(unknown)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        let list = ListResourcesResult { resources: self.read("resources"), ..Default::default() };
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let list =
            ListResourceTemplatesResult { resource_templates: self.read("templates"), ..Default::default() };
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let content = match id {
            Some(id) => {
                let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                let content = json!({ "uri": uri, "mimeType": "application/json", "text": data.to_string() });
                serde_json::from_value(content).ok()
            }
            None => self.entry("contents", uri, &json!({})),
        };
        let Some(content) = content else {
            return Err(ErrorData::resource_not_found(
                format!("Resource not found: {uri}"),
                Some(json!({ "uri": uri })),
            ));
        };
        let result = ReadResourceResult::new(vec![content]);
        Ok(result.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Public).into())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.subscriptions.lock().unwrap().push(context.sink().clone());
        context.cancelled().await;
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        let list = ListPromptsResult { prompts: self.read("prompts"), ..Default::default() };
        Ok(list.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let name = request.name.as_str();
        if rounds::has_rounds(name) {
            let (answers, state) = (request.input_responses.as_ref(), request.request_state.as_deref());
            return Ok(match rounds::next(name, answers, state, None)? {
                Ok(done) => {
                    let message = json!([{ "role": "user", "content": { "type": "text", "text": done } }]);
                    GetPromptResult::new(serde_json::from_value(message).unwrap()).into()
                }
                Err(required) => required.into(),
            });
        }
        let arguments = serde_json::to_value(request.arguments.unwrap_or_default()).unwrap();
        let messages = self.entry("messages", name, &arguments);
        let unknown = || ErrorData::invalid_params(format!("Unknown prompt: {name}"), None);
        Ok(GetPromptResult::new(messages.ok_or_else(unknown)?).into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: Context,
    ) -> Result<CompleteResult, ErrorData> {
        let values = vec![format!("{}-completed", request.argument.value)];
        Ok(CompleteResult::new(CompletionInfo::new(values).unwrap()))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }
}
