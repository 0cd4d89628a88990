//! Starting a core by PSCI (Arm DEN 0022, CPU_ON).

use smccc::psci::{self, Error};
use smccc::{Hvc, Smc};

use crate::machine::StartMethod;

/// Starts the core `mpidr` at `entry` with `context` in its `x0`.
///
/// # Errors
///
/// The firmware's refusal; `NotSupported` when `method` is not PSCI.
///
/// # Safety
///
/// `entry` must be code that a core can run with its MMU off and no stack.
pub unsafe fn start_core(method: StartMethod, mpidr: u64, entry: usize, context: usize) -> Result<(), Error> {
    match method {
        StartMethod::PsciHvc => psci::cpu_on::<Hvc>(mpidr, entry as u64, context as u64),
        StartMethod::PsciSmc => psci::cpu_on::<Smc>(mpidr, entry as u64, context as u64),
        _ => Err(Error::NotSupported),
    }
}
