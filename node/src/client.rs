//! How commands talk to a node: plain HTTP, to the node that the data folder names.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::config::Config;
use crate::files::{self, Presence};

/// The longest answer that is read into memory: a page of 200 messages of the longest text is
/// below 4 MiB.
const LONGEST_ANSWER: usize = 16 << 20;

/// How long a node may take to answer: above its own deadlines.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a node may take to do what an operator asks: a backup of a full disk takes hours.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(12 * 3_600);

const DASHBOARD: &str = "/api/v1/dashboard";
const INTEGRATION: &str = "/integration/v1";
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// What the API calls the account in its faults.
const ACCOUNT_FIELD: &str = "X-Account";
const ACCOUNT: HeaderName = HeaderName::from_static("x-account");

/// Which node a command talks to, and as whom.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Node")]
pub struct Target {
    /// The node's API [default: what the data folder says].
    #[arg(long, global = true, value_name = "URL", env = "ZAJIL_URL")]
    pub url: Option<String>,
    /// The node's operations address [default: what the data folder says].
    #[arg(long, global = true, value_name = "URL", env = "ZAJIL_OPERATIONS_URL")]
    pub operations_url: Option<String>,
    /// The operator token [default: the data folder's].
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "ZAJIL_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// The account to act for, by id or name; needed where there are several.
    #[arg(long, global = true, value_name = "ACCOUNT", env = "ZAJIL_ACCOUNT")]
    pub account: Option<String>,
    /// Print what the node answered as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Why a request to a node failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing answers there.
    #[error("no node answers at {at}; start one with `zajil serve`, or say where it is")]
    Unreachable {
        /// The address.
        at: String,
        /// What the system said.
        source: hyper_util::client::legacy::Error,
    },
    /// The node answered with an error.
    #[error("{message} ({code}){fields}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// The contract's `error_code`.
        code: String,
        /// For people.
        message: String,
        /// What is wrong with which field, a line each.
        fields: String,
        /// How long to wait before another try, where the node says so.
        retry_after: Option<Duration>,
    },
    /// The connection broke, or the node did not answer in time: what was asked may have happened.
    #[error("the answer of {at} was lost")]
    Lost {
        /// The address.
        at: String,
    },
    /// What answers there is not a node.
    #[error("what answers at {url} is not Zajil")]
    Foreign {
        /// The address.
        url: String,
    },
}

/// Talks to one node.
#[derive(Debug)]
pub struct Client {
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    api: String,
    operations: String,
    identity: Identity,
    account: Option<String>,
}

#[derive(Debug)]
enum Identity {
    Operator(String),
    Key(String),
}

impl Client {
    /// Finds the node: what the command line says, else what the data folder says.
    ///
    /// # Errors
    /// No node runs here and the command line names none; or there is no token.
    pub fn open(config: &Config, target: &Target) -> Result<Self> {
        let (api, operations) = addresses(config, target)?;
        let token = match &target.token {
            Some(token) => Some(token.clone()),
            None => config
                .operator_token
                .clone()
                .or(files::read_token(&config.data_dir)?),
        };
        let token = token.with_context(|| {
            let file = files::token_path(&config.data_dir);
            format!(
                "no operator token: {} does not exist; give --token",
                file.display()
            )
        })?;
        Ok(Self {
            http: hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http(),
            api,
            operations,
            identity: Identity::Operator(token),
            account: target.account.clone(),
        })
    }

    /// The same node, addressed with an API key: messages and batches go by the Integration API.
    #[must_use]
    pub fn with_key(self, key: Option<String>) -> Self {
        match key {
            Some(key) => Self {
                identity: Identity::Key(key),
                ..self
            },
            None => self,
        }
    }

    /// Asks the Dashboard API.
    ///
    /// # Errors
    /// Nothing answered, or the node refused.
    pub async fn dashboard(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, CallError> {
        self.json(method, format!("{}{DASHBOARD}{path}", self.api), body)
            .await
    }

    /// Asks what both APIs offer: the Integration API with a key, else the Dashboard API.
    ///
    /// # Errors
    /// Nothing answered, or the node refused.
    pub async fn sending(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, CallError> {
        self.json(method, self.sending_url(path), body).await
    }

    /// Asks the operations address.
    ///
    /// # Errors
    /// Nothing answered, or the node refused.
    pub async fn operations(&self, path: &str, body: Value) -> Result<Value, CallError> {
        self.change(path, Method::POST, body).await
    }

    /// Asks the operations address by another method.
    ///
    /// # Errors
    /// Nothing answered, or the node refused.
    pub async fn change(
        &self,
        path: &str,
        method: Method,
        body: Value,
    ) -> Result<Value, CallError> {
        self.json(method, format!("{}{path}", self.operations), Some(body))
            .await
    }

    /// Asks the operations address something that changes nothing.
    ///
    /// # Errors
    /// Nothing answered, or the node refused.
    pub async fn ask(&self, path: &str) -> Result<Value, CallError> {
        self.json(Method::GET, format!("{}{path}", self.operations), None)
            .await
    }

    /// Sends rows of a batch.
    ///
    /// # Errors
    /// Nothing answered, or the node refused.
    pub async fn upload(&self, path: &str, kind: &str, rows: Bytes) -> Result<Value, CallError> {
        let url = self.sending_url(path);
        let response = self.send(Method::POST, &url, kind, rows).await?;
        answer(&url, response).await
    }

    /// Asks for a file, and hands its parts to `write` as they come.
    ///
    /// # Errors
    /// Nothing answered, the node refused, or `write` failed.
    pub async fn download(
        &self,
        path: &str,
        mut write: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<()> {
        let url = self.sending_url(path);
        let response = self
            .send(Method::GET, &url, "application/json", Bytes::new())
            .await?;
        if !response.status().is_success() {
            answer(&url, response).await?;
            return Ok(());
        }
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame
                .with_context(|| format!("{url} broke off"))?
                .into_data()
            {
                write(&data)?;
            }
        }
        Ok(())
    }

    fn sending_url(&self, path: &str) -> String {
        let root = match self.identity {
            Identity::Operator(_) => DASHBOARD,
            Identity::Key(_) => INTEGRATION,
        };
        format!("{}{root}{path}", self.api)
    }

    async fn json(
        &self,
        method: Method,
        url: String,
        body: Option<Value>,
    ) -> Result<Value, CallError> {
        let body = body.map(|value| value.to_string()).unwrap_or_default();
        let response = self
            .send(method, &url, "application/json", body.into())
            .await?;
        answer(&url, response).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let foreign = || CallError::Foreign {
            url: url.to_owned(),
        };
        // What only reads is answered soon, or not at all.
        let slow = method == Method::POST
            && url.starts_with(&self.operations)
            && self.operations != self.api;
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(ACCEPT, "*/*");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, kind);
        }
        request = match &self.identity {
            Identity::Operator(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            Identity::Key(key) => request.header(API_KEY, key),
        };
        if let Some(account) = &self.account {
            request = request.header(ACCOUNT, account);
        }
        let request = request.body(Full::new(body)).map_err(|_| foreign())?;
        let at = request
            .uri()
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        let patience = if slow { OPERATOR_PATIENCE } else { PATIENCE };
        let answered = tokio::time::timeout(patience, self.http.request(request)).await;
        match answered {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(source)) if source.is_connect() => Err(CallError::Unreachable { at, source }),
            Ok(Err(_)) | Err(_) => Err(CallError::Lost { at }),
        }
    }
}

fn addresses(config: &Config, target: &Target) -> Result<(String, String)> {
    // Who names a node means that one with both addresses, never the one that runs here.
    let named = target.url.is_some() || target.operations_url.is_some();
    let here = Presence::read(&config.data_dir).filter(|_| !named);
    let url = |said: &Option<String>, here: Option<std::net::SocketAddr>| {
        let found = here.map(|at| format!("http://{}", files::reachable(at)));
        said.as_ref()
            .map(|url| url.trim_end_matches('/').to_owned())
            .or(found)
    };
    let api = url(&target.url, here.map(|it| it.api));
    let operations = url(&target.operations_url, here.map(|it| it.operations));
    // With one address given, a command that needs only that one can do without the other.
    let (api, operations) = match (api, operations) {
        (None, None) => anyhow::bail!(no_node(&config.data_dir)),
        (Some(api), operations) => (api.clone(), operations.unwrap_or(api)),
        (None, Some(operations)) => (operations.clone(), operations),
    };
    for url in [&api, &operations] {
        anyhow::ensure!(
            url.starts_with("http://"),
            "{url} is not an address that this command can use: it begins with http://"
        );
    }
    Ok((api, operations))
}

fn no_node(data_dir: &std::path::Path) -> String {
    format!(
        "no node runs with the data folder {}; start one with `zajil serve`, or name another \
         folder with --data-dir, or a node with --url",
        PathBuf::from(data_dir).display()
    )
}

async fn answer(url: &str, response: Response<Incoming>) -> Result<Value, CallError> {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let limited = http_body_util::Limited::new(response.into_body(), LONGEST_ANSWER);
    let body = limited
        .collect()
        .await
        .map_err(|_| CallError::Lost { at: url.to_owned() })?;
    let answer: Value =
        serde_json::from_slice(&body.to_bytes()).map_err(|_| CallError::Foreign {
            url: url.to_owned(),
        })?;
    if status.is_success() {
        return Ok(answer);
    }
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let mut fields = fields(&answer["errors"]);
    let (code, message) = (text("error_code"), text("message"));
    if status == StatusCode::NOT_FOUND {
        fields.push_str(&format!("\n  {url}"));
    }
    if answer["errors"].get(ACCOUNT_FIELD).is_some() {
        fields.push_str("\n  say which one with --account, by id or name");
    }
    Err(CallError::Refused {
        status,
        code,
        message,
        fields,
        retry_after,
    })
}

fn fields(errors: &Value) -> String {
    let texts = |it: &Value| -> Vec<String> {
        it.as_array()
            .into_iter()
            .flatten()
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect()
    };
    let lines = errors.as_object().into_iter().flatten();
    lines
        .map(|(name, it)| format!("\n  {name}: {}", texts(it).join(" ")))
        .collect()
}

/// A text as it may stand in a path or a query.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_any_letter_can_be_asked_for() {
        assert_eq!(encoded("my-instance"), "my-instance");
        assert_eq!(encoded("مكتب & co"), "%D9%85%D9%83%D8%AA%D8%A8%20%26%20co");
    }
}
