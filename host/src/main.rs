//! The one binary. It parses the command line and calls the library.
fn main() {}
