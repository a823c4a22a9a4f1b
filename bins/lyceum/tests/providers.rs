//! The server with hosted providers, played by `lyceum-sim`, and what happens when they fail.

mod support;
