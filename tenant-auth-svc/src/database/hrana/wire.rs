//! The messages of the protocol that the engine uses.
//!
//! Not the types of the official `libsql-hrana` crate: it brings a second, older prost and the whole protocol along,
//! and parses a response field by field into a tree of strings; these are the hundred lines that are needed.

use std::borrow::Cow;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    database::engine::{self, Statement},
    domain::store::{FailureKind, StoreError},
};

/// The server sends no padding; padding is accepted anyway.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Debug, Serialize)]
pub(super) struct PipelineRequest {
    baton: Option<String>,
    requests: Vec<StreamRequest>,
}

impl PipelineRequest {
    /// Requests on a new stream. Left open, the stream would hold one of the server's few permits until it expires
    /// ten seconds later.
    pub(super) fn new(mut requests: Vec<StreamRequest>) -> Self {
        requests.push(StreamRequest::Close);
        Self { baton: None, requests }
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamRequest {
    Execute { stmt: Stmt },
    Batch { batch: Batch },
    Close,
}

#[derive(Debug, Serialize)]
pub(super) struct Stmt {
    sql: Cow<'static, str>,
    args: Vec<WireValue<'static>>,
    want_rows: bool,
}

impl Stmt {
    pub(super) fn new(statement: &Statement) -> Self {
        Self {
            sql: statement.sql.to_string().into(),
            args: statement.args.iter().map(WireValue::from_sql).collect(),
            want_rows: true,
        }
    }

    pub(super) fn without_rows(sql: &'static str) -> Self {
        Self { sql: sql.into(), args: Vec::new(), want_rows: false }
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Batch {
    steps: Vec<BatchStep>,
}

#[derive(Debug, Serialize)]
struct BatchStep {
    condition: Option<StepCondition>,
    stmt: Stmt,
}

impl Batch {
    pub(super) fn push(&mut self, condition: Option<StepCondition>, stmt: Stmt) {
        self.steps.push(BatchStep { condition, stmt });
    }

    /// Index of the last step.
    pub(super) fn last_step(&self) -> usize {
        self.steps.len().saturating_sub(1)
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StepCondition {
    Ok { step: usize },
    Not { cond: Box<Self> },
    And { conds: Vec<Self> },
}

impl StepCondition {
    pub(super) fn ok(step: usize) -> Self {
        Self::Ok { step }
    }

    pub(super) fn not(condition: Self) -> Self {
        Self::Not { cond: Box::new(condition) }
    }

    pub(super) fn all(conditions: [Self; 2]) -> Self {
        Self::And { conds: conditions.into() }
    }
}

/// A value. Integers are encoded as text, because JSON numbers lose digits beyond 2^53 in many languages.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum WireValue<'a> {
    Null,
    Integer {
        value: Cow<'a, str>,
    },
    Float {
        value: f64,
    },
    Text {
        value: Cow<'a, str>,
    },
    Blob {
        #[serde(default)]
        base64: Cow<'a, str>,
    },
}

impl WireValue<'static> {
    fn from_sql(value: &engine::SqlValue) -> Self {
        match value {
            engine::SqlValue::Null => Self::Null,
            engine::SqlValue::Integer(integer) => Self::Integer { value: integer.to_string().into() },
            engine::SqlValue::Real(real) => Self::Float { value: *real },
            engine::SqlValue::Text(text) => Self::Text { value: text.to_string().into() },
            engine::SqlValue::Blob(bytes) => Self::Blob { base64: BASE64.encode(bytes).into() },
        }
    }
}

impl TryFrom<WireValue<'_>> for engine::SqlValue {
    type Error = StoreError;

    fn try_from(value: WireValue<'_>) -> Result<Self, StoreError> {
        let invalid = |what| StoreError::new(FailureKind::InvalidResponse, what);
        Ok(match value {
            WireValue::Null => Self::Null,
            WireValue::Integer { value } => {
                Self::Integer(value.parse().map_err(|_| invalid("an integer value is invalid"))?)
            }
            WireValue::Float { value } => Self::Real(value),
            WireValue::Text { value } => Self::Text(value.into()),
            WireValue::Blob { base64 } => Self::Blob(Bytes::from(
                BASE64.decode(base64.as_bytes()).map_err(|_| invalid("a blob is not valid base64"))?,
            )),
        })
    }
}

/// The response to a [`PipelineRequest`]. Fields that newer servers add are skipped.
#[derive(Debug, Deserialize)]
pub(super) struct PipelineResponse<'a> {
    #[serde(borrow)]
    pub(super) results: Vec<StreamResult<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamResult<'a> {
    Ok {
        #[serde(borrow)]
        response: StreamResponse<'a>,
    },
    Error {
        error: SqlError,
    },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum StreamResponse<'a> {
    Execute {
        #[serde(borrow)]
        result: StmtResult<'a>,
    },
    Batch {
        #[serde(borrow)]
        result: BatchResult<'a>,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
pub(super) struct StmtResult<'a> {
    #[serde(borrow)]
    pub(super) rows: Vec<Vec<WireValue<'a>>>,
    #[serde(default)]
    pub(super) rows_read: RowCount,
    #[serde(default)]
    pub(super) rows_written: RowCount,
    #[serde(default)]
    pub(super) replication_index: ReplicationIndex<'a>,
}

/// A statistic too. It is text, because it may have more digits than a number keeps in many languages.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ReplicationIndex<'a> {
    #[serde(borrow)]
    Text(Cow<'a, str>),
    Number(u64),
    Other(IgnoredAny),
}

impl Default for ReplicationIndex<'_> {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl ReplicationIndex<'_> {
    /// The index; 0 if there is none.
    pub(super) fn get(&self) -> u64 {
        match self {
            Self::Text(text) => text.parse().unwrap_or_default(),
            Self::Number(number) => *number,
            Self::Other(_) => 0,
        }
    }
}

/// A statistic: whatever the server sends, the rows are valid.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RowCount {
    Count(u64),
    Other(IgnoredAny),
}

impl Default for RowCount {
    fn default() -> Self {
        Self::Count(0)
    }
}

impl RowCount {
    pub(super) fn get(&self) -> u64 {
        match self {
            Self::Count(count) => *count,
            Self::Other(_) => 0,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct BatchResult<'a> {
    #[serde(borrow)]
    pub(super) step_results: Vec<Option<StmtResult<'a>>>,
    pub(super) step_errors: Vec<Option<SqlError>>,
    #[serde(default)]
    pub(super) replication_index: ReplicationIndex<'a>,
}

/// An SQL error: the HTTP status is 200 nevertheless.
#[derive(Debug, Deserialize)]
pub(super) struct SqlError {
    pub(super) message: String,
    #[serde(default)]
    pub(super) code: Option<String>,
}
