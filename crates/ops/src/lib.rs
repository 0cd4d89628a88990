//! Numbers.
#![no_std]
