//! Cases.
#![no_std]
