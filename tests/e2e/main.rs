//! End-to-end tests: real processes over loopback, a real chain, the commands a person would type; and the shape of the workspace.

mod agent;
mod answer;
mod bad_input;
mod checks;
mod commands;
mod datanets;
mod discovery;
mod engine;
mod erase;
mod failures;
mod fast;
mod faults;
mod finality;
mod gateway;
mod keeping;
mod killed;
mod layering;
mod log;
mod refuted;
mod rent;
mod room;
mod spending;
mod storage;
mod wallet;
mod withheld;
