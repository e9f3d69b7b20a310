//! The protocol: what the official library asks of a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};

use super::children::Children;
use super::permission::Permission;
use super::root::Root;
use super::tools::{TOOLS, ToolEntry};
use super::workplace::Workplace;
use crate::error::{Context, Error, Result, printable};

/// What a model is told about the server as a whole.
const INSTRUCTIONS: &str = "Firebrand fine-tunes language models. `settings` describes what a file \
    of settings may say, `plan` checks one, `train` starts the run and `status` tells how it is \
    doing; `verify`, `lineage` and `scan` are about finished models. Paths are relative to the \
    folder of this server and stay within it. Tools that write or compute are there only if the \
    person who started the server has allowed them.";

/// How the server is set up.
pub struct ServerSettings {
    /// Within which everything stays.
    pub root: PathBuf,
    /// What may be done beside reading.
    pub allowed: Vec<Permission>,
    /// How long a call may take.
    pub patience: Duration,
}

/// Answers a client on stdin and stdout until it is gone. Runs that it has started go on.
///
/// # Errors
/// When the folder is not there, or no client says what it speaks.
pub fn serve(settings: ServerSettings) -> Result<()> {
    let root = Root::new(&settings.root)?;
    // Names of runs are looked up where the program works.
    std::env::set_current_dir(root.path()).context_at("cannot work in the folder", root.path())?;
    let children = Children::new(root.path(), settings.patience)?;
    let place = Arc::new(Workplace { root, allowed: settings.allowed, children });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the server")?;
    let server = AgentServer { place: Arc::clone(&place) };
    let ended = runtime.block_on(async {
        let failed = |error: String| Error::usage("no client of the protocol").because(error);
        let service = server.serve(rmcp::transport::stdio()).await;
        let service = service.map_err(|error| failed(error.to_string()))?;
        service.waiting().await.map(drop).map_err(|error| failed(error.to_string()))
    });
    place.children.end_calls();
    runtime.shutdown_background(); // a call that is being given up is not waited for
    ended
}

struct AgentServer {
    place: Arc<Workplace>,
}

impl AgentServer {
    fn described(tool: &ToolEntry) -> Tool {
        let annotations = ToolAnnotations::with_title(tool.title)
            .read_only(tool.needs.is_none())
            .destructive(tool.destructive)
            .idempotent(tool.needs.is_none())
            .open_world(false);
        Tool::new(tool.name, tool.description, Arc::new(tool.input_schema()))
            .with_title(tool.title)
            .with_raw_output_schema(Arc::new(tool.output_schema()))
            .with_annotations(annotations)
    }
}

impl ServerHandler for AgentServer {
    fn get_info(&self) -> ServerConfig {
        let this = Implementation::new("firebrand", env!("CARGO_PKG_VERSION"))
            .with_title("Firebrand")
            .with_description(env!("CARGO_PKG_DESCRIPTION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(this)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let allowed = TOOLS.iter().filter(|tool| tool.is_allowed(&self.place));
        let tools = allowed.map(|tool| Self::described(tool)).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let tool = ToolEntry::of_name(name).filter(|tool| tool.is_allowed(&self.place))?;
        Some(Self::described(tool))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = ToolEntry::of_name(&request.name) else {
            let name: String = printable(&request.name).chars().take(64).collect();
            return Err(ErrorData::invalid_params(format!("there is no tool `{name}`"), None));
        };
        let (place, cancelled) = (Arc::clone(&self.place), context.ct.clone());
        let arguments = request.arguments.unwrap_or_default();
        let work = move || tool.call(&place, arguments, &|| cancelled.is_cancelled());
        let result = match tokio::task::spawn_blocking(work).await {
            Ok(Ok(value)) => CallToolResult::structured(value),
            // The model reads it, and may do better.
            Ok(Err(error)) => CallToolResult::error(vec![ContentBlock::text(error.to_string())]),
            Err(error) => return Err(ErrorData::internal_error(error.to_string(), None)),
        };
        Ok(result.into())
    }
}
