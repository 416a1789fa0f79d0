//! simulations
fn main() {}
