//! A no in OpenAI's form: what is wrong, where, and the way out.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use serde_json::{Value, json};

/// What kind of no: decides status and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request says something that cannot be done.
    Invalid,
    /// No key, or one that nobody has.
    Key,
    /// The key may not do this.
    Forbidden,
    /// There is no such thing.
    Missing,
    /// There is, but not by this method.
    Method,
    /// The same is under way.
    Running,
    /// Too many bytes.
    TooLarge,
    /// Not JSON.
    Media,
    /// The client took too long to send.
    Slow,
    /// The idempotency key was used for something else.
    Differs,
    /// The key's share of time, tokens or answers at once is used up.
    Limited,
    /// The gateway itself is full.
    Busy,
    /// What was asked failed.
    Failed,
}

impl Kind {
    /// HTTP status and OpenAI's type.
    const fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Invalid => (StatusCode::BAD_REQUEST, "invalid_request_error"),
            Self::Key => (StatusCode::UNAUTHORIZED, "authentication_error"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "permission_error"),
            Self::Missing => (StatusCode::NOT_FOUND, "invalid_request_error"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error"),
            Self::Running => (StatusCode::CONFLICT, "invalid_request_error"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error"),
            Self::Media => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "invalid_request_error"),
            Self::Differs => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error"),
            Self::Limited => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "server_error"),
            Self::Failed => (StatusCode::BAD_GATEWAY, "server_error"),
        }
    }
}

/// A typed no. The message says what, why and the way out, and holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind.
    pub kind: Kind,
    /// A word for programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The field of the request that it is about.
    pub param: Option<String>,
    /// When the same may succeed.
    pub retry_after: Option<Duration>,
    /// Whether the same request again could cost a second time: clients that try again by themselves are told not to.
    pub is_final: bool,
}

impl Refusal {
    /// One without a field.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), param: None, retry_after: None, is_final: false }
    }

    /// A field that says something that cannot be done.
    pub fn field(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(Kind::Invalid, code, message) }
    }

    /// The same, good again after a while.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The same, not to be tried again by a program.
    #[must_use]
    pub fn last(self) -> Self {
        Self { is_final: true, ..self }
    }

    /// The body, also of an event inside a stream.
    pub fn json(&self) -> Value {
        let (_, kind) = self.kind.answer();
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }

    /// The response.
    pub fn response(&self) -> Response<Body> {
        let mut response = json_response(self.kind.answer().0, &self.json());
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, whole(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
            headers.insert("retry-after-ms", whole(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)));
        }
        if self.is_final {
            headers.insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
        }
        if self.kind == Kind::Key {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Media type of every body but a stream.
pub(super) const JSON: &str = "application/json";

/// A number as a header.
pub(super) fn whole(value: u64) -> HeaderValue {
    HeaderValue::from(value)
}

/// A JSON body that nobody keeps: answers are the asker's alone.
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    bytes_response(status, JSON, body.to_string().into_bytes())
}

/// A body of bytes.
pub(super) fn bytes_response(status: StatusCode, media: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_says_when_to_come_back_in_seconds_rounded_up_and_in_milliseconds() {
        let refusal = Refusal::new(Kind::Limited, "rate_limit_exceeded", "too much").after(Duration::from_millis(1_200));
        let response = refusal.response();
        assert_eq!(response.status(), 429);
        assert_eq!((&response.headers()["retry-after"], &response.headers()["retry-after-ms"]), (&whole(2), &whole(1_200)));
        assert!(!response.headers().contains_key("x-should-retry"));
    }

    #[test]
    fn one_that_may_have_cost_something_tells_clients_not_to_try_again_by_themselves() {
        let response = Refusal::new(Kind::Failed, "no_answer", "no node answered").last().response();
        assert_eq!((response.status().as_u16(), &response.headers()["x-should-retry"]), (502, &HeaderValue::from_static("false")));
    }

    #[test]
    fn the_body_has_the_four_members_of_openai() {
        let refusal = Refusal::field("top_p", "out_of_range", "top_p is 2");
        let expected =
            json!({ "error": { "message": "top_p is 2", "type": "invalid_request_error", "param": "top_p", "code": "out_of_range" } });
        assert_eq!(refusal.json(), expected);
    }
}
