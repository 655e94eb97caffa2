//! Ctrl-C, SIGTERM and SIGHUP: the first one stops what runs, the second one ends forge at once.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// The number of the signal that came, or 0.
static RECEIVED: AtomicU8 = AtomicU8::new(0);

/// The signal that came, if one did.
pub fn received() -> Option<u8> {
    Some(RECEIVED.load(Ordering::SeqCst)).filter(|number| *number != 0)
}

/// Runs `work`; a signal calls `cancel`. `work` gets a question to ask: was it cancelled?
pub fn cancelling<T>(cancel: &(dyn Fn() + Sync), work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> T) -> T {
    let cancelled = AtomicBool::new(false);
    let (done, until_done) = tokio::sync::oneshot::channel::<()>();
    let (ready, until_ready) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            // Without a runtime nothing listens, and the signals keep their default: they end the process.
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
                return;
            };
            runtime.block_on(async {
                let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
                let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else { return };
                let _ = ready.send(());
                tokio::pin!(until_done);
                loop {
                    let number = tokio::select! {
                        _ = &mut until_done => return,
                        _ = int.recv() => 2,
                        _ = term.recv() => 15,
                        _ = hup.recv() => 1,
                    };
                    if RECEIVED.swap(number, Ordering::SeqCst) != 0 {
                        // The second time the user means now; the kernel ends the sandboxes with us.
                        forge_runner::terminal::restore();
                        rustix::process::kill_process(
                            rustix::process::getpid(),
                            rustix::process::Signal::KILL,
                        )
                        .ok();
                    }
                    cancelled.store(true, Ordering::SeqCst);
                    cancel();
                }
            });
        });
        // A signal that comes after this point is heard.
        let _ = until_ready.recv();
        let result = work(&|| cancelled.load(Ordering::SeqCst));
        drop(done);
        result
    })
}
