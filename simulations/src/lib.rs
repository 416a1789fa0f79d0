//! Questions asked of the whole network, answered by many nodes in one thread from one seed.
//!
//! Scenarios drive the production cores, never copies of them, and put what they measure beside what the protocol's formulas say. Same seed
//! and same arguments: same output, byte for byte. Floating point is for estimates only; nothing here is signed or paid.
//!
//! | scenario | asks | cores |
//! |---|---|---|
//! | `sampling` | does cheating pay when a few answers are checked? | the draw of checks |
//! | `durability` | do objects outlive what dies at once, slow disks, cuts, churn; is every read answered with a fifth off? | placement, repair, fetch, erasure |
//! | `churn` | how often and how deep do objects fall in months, at thousands of operators? | placement, repair, erasure |
//! | `attribution` | what do attacks on paid attribution gain, and whom do they harm, before and after each defence? | index, near copies, attribution, split |
//! | `checks` | does a checker get away with not looking, or with copying who did? | the round of checks, the draw, the digest of a trace |
//! | `routing` | does who wants it cheap get the cheapest node and who wants it quick the quickest, among liars and the dying? | the router |
//! | `audits` | is a lost hundredth noticed in a month, and a slow disk never a failed one? | audits |
//!
//! What is simulated is time, who runs, who hears whom, and how long bytes take; what stands on disks is real. A world has slow operators (ten to a hundred times
//! slower lines and disks), liars, hosting centres with a third of all operators, and cuts. The shell's limit of a minute for a fragment is the simulation's own copy.
//!
//! The gate runs each scenario small, 1,000 operators for 60 days among them; `cargo xtask soak durability` runs 3,000 operators with 3,000 objects for 120 days.
//!
//! ```
//! use simulations::scenario::audits::{self, Question};
//! let report = audits::run(&Question { fragments: 20, lost: 1, days: 30, months: 2, seed: 1 })?;
//! assert!(report.slow.iter().all(|slow| slow.failed == 0));
//! # Ok::<(), audits::QuestionError>(())
//! ```

pub mod random;
pub mod scenario;
