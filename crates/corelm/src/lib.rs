//! Engine.
#![no_std]
