//! A conversation as it is hashed (P3).

use serde::{Deserialize, Serialize};
use types::text::canonical_lossy;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions ahead of the conversation.
    System,
    /// The client, or context retrieved for it.
    User,
    /// An earlier answer.
    Assistant,
}

impl Role {
    /// Its byte in prompt bytes.
    pub const fn code(self) -> u8 {
        match self {
            Self::System => 1,
            Self::User => 2,
            Self::Assistant => 3,
        }
    }

    /// The role with this byte.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::System),
            2 => Some(Self::User),
            3 => Some(Self::Assistant),
            _ => None,
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Prompt bytes: per message its role byte, its canonical content, a zero byte.
pub fn prompt_bytes(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(messages.iter().map(|message| message.content.len() + 2).sum());
    for message in messages {
        bytes.push(message.role.code());
        bytes.extend_from_slice(canonical_lossy(message.content.as_bytes()).as_bytes());
        bytes.push(0);
    }
    bytes
}
