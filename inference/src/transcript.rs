//! What goes into an answer and what comes out of it, as plain data.

use serde::{Deserialize, Serialize};

/// Who speaks in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that precede the conversation.
    System,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model chose an end token, which is not part of the answer.
    Stop,
    /// The answer reached the most tokens allowed, or the model's context.
    Length,
}

/// What a node produced for one request: everything that attribution and a receipt need from this crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// Tokens of the prompt and of what was continued.
    pub prompt_tokens: u32,
    /// Number of the answer's first token that is in `tokens`: not 0 when another node began the answer.
    pub first: u32,
    /// Token ids, in order.
    pub tokens: Vec<u32>,
    /// Why the answer ended; none while it is running or when the caller stopped it.
    pub finish: Option<Finish>,
}
