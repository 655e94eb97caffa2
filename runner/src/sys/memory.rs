//! How the C library hands out memory.

/// One heap for all threads, instead of eight a core: what one thread frees the others use, and the peak of a build with
/// many files falls by a quarter. Threads that hash and compress hardly ever allocate.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers; refused, it changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
