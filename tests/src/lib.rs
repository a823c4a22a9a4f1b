//! What tests of the composed system share with the programs that they start and kill.

pub mod crash;
