//! The bodies that clients send beside messages, as OpenAPI shows them. They are read member by member
//! (`validate`), so these types are only written down.

use std::collections::BTreeMap;

use utoipa::ToSchema;

use super::sends::InstanceIdOrName;

/// A contact to be added, or wholly replaced.
#[derive(Debug, ToSchema)]
pub struct NewContact {
    /// E.164, once in the account.
    #[schema(example = "+966501234567")]
    pub phone_number: String,
    /// What they are called.
    pub name: Option<String>,
    /// A free word.
    pub label: Option<String>,
    /// A tag of your own.
    pub group_id: Option<i64>,
}

/// What is to be changed of a contact; `null` empties a member.
#[derive(Debug, ToSchema)]
pub struct ContactChange {
    /// E.164.
    pub phone_number: Option<String>,
    /// What they are called.
    pub name: Option<String>,
    /// A free word.
    pub label: Option<String>,
    /// A tag of your own.
    pub group_id: Option<i64>,
}

/// A recipient who opts out.
#[derive(Debug, ToSchema)]
pub struct NewSuppression {
    /// E.164.
    #[schema(example = "+966501234567")]
    pub phone_number: String,
    /// Why.
    pub reason: Option<String>,
}

/// A text with variables.
#[derive(Debug, ToSchema)]
pub struct NewTemplate {
    /// Once in the account.
    pub name: String,
    /// `text`.
    pub message_type: Option<String>,
    /// The text, with `{{variables}}`.
    #[schema(example = "Hello {{name}}")]
    pub content: String,
}

/// A campaign.
#[derive(Debug, ToSchema)]
pub struct NewBatch {
    /// What people call it.
    pub name: String,
    /// One instance; or several in `instances`.
    pub instance: Option<InstanceIdOrName>,
    /// Ids or names of 1 to 100 instances.
    #[schema(max_items = 100)]
    pub instances: Option<Vec<InstanceIdOrName>>,
    /// What rows say that bring no content of their own.
    pub content: Option<String>,
    /// A template instead.
    pub template_id: Option<u64>,
    /// What variables stand for, unless a row says otherwise.
    pub template_variables: Option<BTreeMap<String, String>>,
    /// Seconds that a row may take from the start.
    pub ttl: Option<u32>,
    /// When it starts by itself.
    pub start_at: Option<String>,
    /// When it should be done; only warned about.
    pub deadline: Option<String>,
    /// `skip` (default) or `keep`.
    pub duplicates: Option<String>,
    /// What becomes of a message whose outcome cannot be known, on a transport without idempotency:
    /// `unknown` or `resend`; else as the account says.
    #[schema(example = "unknown")]
    pub on_ambiguous: Option<String>,
}

/// Who signs in.
#[derive(Debug, ToSchema)]
pub struct Credentials {
    /// The email.
    pub email: String,
    /// The password.
    pub password: String,
}

/// An API key to be made.
#[derive(Debug, ToSchema)]
pub struct NewApiKey {
    /// What people call it.
    pub name: String,
    /// What it may do.
    #[schema(example = json!(["send_message", "read_messages"]))]
    pub permissions: Vec<String>,
    /// Requests an hour.
    #[schema(example = 1000)]
    pub rate_limit: Option<u64>,
    /// When it ends by itself.
    pub expires_at: Option<String>,
    /// Addresses and networks from where it may be used.
    pub allowed_ips: Option<Vec<String>>,
    /// Ids or names of the instances for which it may be used.
    pub allowed_instances: Option<Vec<InstanceIdOrName>>,
}

/// How a key is rotated.
#[derive(Debug, ToSchema)]
pub struct Rotation {
    /// Seconds for which the former text stays good.
    #[schema(example = 86_400)]
    pub overlap_s: Option<u32>,
}

/// An instance to be made.
#[derive(Debug, ToSchema)]
pub struct NewInstance {
    /// Once in the account; at least one character is no digit.
    pub instance_name: String,
    /// `simulator`.
    #[schema(example = "simulator")]
    pub transport: Option<String>,
    /// The settings of the transport.
    pub transport_settings: Option<TransportSettings>,
    /// How fast it may send.
    pub pacing: Option<Pacing>,
    /// Whether messages are taken while it is logged out or banned.
    pub queue_while_disconnected: Option<bool>,
}

/// What is to be changed of an instance.
#[derive(Debug, ToSchema)]
pub struct InstanceChange {
    /// Its name.
    pub instance_name: Option<String>,
    /// The settings of its transport.
    pub transport_settings: Option<TransportSettings>,
    /// How fast it may send.
    pub pacing: Option<Pacing>,
    /// Whether messages are taken while it is logged out or banned.
    pub queue_while_disconnected: Option<bool>,
}

/// The settings of the simulator.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct TransportSettings {
    /// Where a simulator process listens (`host:port`); absent is the one inside.
    pub address: Option<String>,
    /// The script that the simulator inside follows, as JSON text.
    pub script: Option<String>,
}

/// How fast an instance may send.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct Pacing {
    /// The rate.
    pub rate: Rate,
    /// How many may go at once after a pause.
    pub burst: Option<u32>,
    /// How much each gap varies, 0 to 0.5 of it.
    pub jitter: f64,
    /// Messages a day at most.
    pub daily_cap: Option<u64>,
    /// The IANA zone in which a day begins.
    #[schema(example = "Asia/Riyadh")]
    pub time_zone: Option<String>,
}

/// Messages in a unit of time.
#[derive(Debug, serde::Serialize, ToSchema)]
pub struct Rate {
    /// How many; fractions are allowed.
    pub count: f64,
    /// `second`, `minute` or `hour`.
    #[schema(example = "second")]
    pub per: &'static str,
}
