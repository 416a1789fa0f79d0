//! Whose data an answer drew on, what each is owed, and how that is checked.
pub mod index;
pub mod parameters;
pub mod span;
