//! chain-bridge
