//! Every public function of the libraries in one object, and nothing else: what `cargo xtask prove` links and reads.
//!
//! It is never run. The functions are in a table whose address leaves the object, so the compiler can assume nothing about
//! their arguments. `cargo xtask prove` writes the table from rustdoc's list of what is public and names it in
//! `CORELM_EXPORTS`; functions with parameters of types are in `generic.rs`. A panic would call a function that exists
//! nowhere: an object without that import has no panic that the table reaches.
#![cfg_attr(prove, no_std, no_main)]

#[cfg(all(prove, generic))]
mod generic;
#[cfg(prove)]
mod plant;

#[cfg(prove)]
mod table {
    use crate::plant;
    use core::panic::PanicInfo;

    /// The address of a function.
    #[repr(transparent)]
    pub struct Export(pub *const ());

    // SAFETY: the address of a function is the same for every thread, and nothing is read through it.
    unsafe impl Sync for Export {}

    include!(env!("CORELM_EXPORTS"));

    unsafe extern "C" {
        /// Exists nowhere.
        fn corelm_panic_is_reachable() -> !;
    }

    /// Gives the tables away.
    #[unsafe(no_mangle)]
    pub extern "C" fn _start(which: usize) -> *const () {
        match which {
            0 => (&raw const EXPORTS).cast(),
            #[cfg(generic)]
            1 => (&raw const crate::generic::GENERIC).cast(),
            _ => plant::plant(which),
        }
    }

    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        // SAFETY: it is never called: an object that refers to it is refused.
        unsafe { corelm_panic_is_reachable() }
    }
}

#[cfg(not(prove))]
fn main() {
    println!("an object to prove things about: type `cargo xtask prove`");
}
