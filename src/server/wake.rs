//! Wakes a thread that waits for a socket, by a descriptor that it polls beside the socket: an
//! eventfd on Linux, elsewhere a pipe.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// [`Wake::wake`] ends the current wait, or the next one. The descriptor is created by the first
/// wait: most connections never wait.
#[derive(Default)]
pub struct Wake {
    ends: OnceLock<Ends>,
    woken: AtomicBool,
}

struct Ends {
    read: OwnedFd,
    /// The writing end, where it is a descriptor of its own.
    #[cfg(not(target_os = "linux"))]
    write: OwnedFd,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Woken {
    /// [`Wake::wake`] was called.
    pub woken: bool,
    /// The socket has something to read, or has ended.
    pub readable: bool,
    /// The socket is broken, or closed in both directions.
    pub hung_up: bool,
}

impl Ends {
    #[cfg(target_os = "linux")]
    fn new() -> io::Result<Ends> {
        use rustix::event::{EventfdFlags, eventfd};
        let read = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Ends { read })
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> io::Result<Ends> {
        let (read, write) = rustix::pipe::pipe()?;
        for end in [&read, &write] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Ends { read, write })
    }

    /// A full pipe wakes too.
    fn write(&self) {
        #[cfg(target_os = "linux")]
        let end = &self.read;
        #[cfg(not(target_os = "linux"))]
        let end = &self.write;
        let _ = rustix::io::write(end, &1u64.to_ne_bytes());
    }
}

impl Wake {
    pub fn new() -> Arc<Wake> {
        Arc::default()
    }

    /// Ends the wait.
    pub fn wake(&self) {
        // Only the first of several wakes needs a write.
        if !self.woken.swap(true, Ordering::SeqCst)
            && let Some(ends) = self.ends.get()
        {
            ends.write();
        }
    }

    /// Creates the descriptor; fails if the system has none left.
    pub fn prepare(&self) -> io::Result<()> {
        self.ends().map(|_| ())
    }

    fn ends(&self) -> io::Result<&Ends> {
        if self.ends.get().is_none() {
            // Only the waiting thread calls this, so no other sets it meanwhile.
            let _ = self.ends.set(Ends::new()?);
            if self.woken.load(Ordering::SeqCst)
                && let Some(ends) = self.ends.get()
            {
                ends.write();
            }
        }
        self.ends.get().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Sleeps until woken, or for `timeout`.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.sleep(&mut [PollFd::new(&self.ends()?.read, PollFlags::IN)], timeout).map(|_| ())
    }

    /// Sleeps until woken, until the socket has something to read, or for `timeout`.
    pub fn wait_readable(
        &self,
        socket: &impl AsFd,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        self.wait_socket(socket, PollFlags::IN, timeout)
    }

    /// As [`Wake::wait_readable`], but ignores data to read.
    pub fn wait_hang_up(&self, socket: &impl AsFd, timeout: Option<Duration>) -> io::Result<Woken> {
        self.wait_socket(socket, PollFlags::empty(), timeout)
    }

    fn wait_socket(
        &self,
        socket: &impl AsFd,
        interest: PollFlags,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        let own = &self.ends()?.read;
        let mut fds = [PollFd::new(own, PollFlags::IN), PollFd::new(socket, interest)];
        let woken = self.sleep(&mut fds, timeout)?;
        let [_, socket] = &fds;
        let seen = socket.revents();
        Ok(Woken {
            woken,
            readable: seen.contains(PollFlags::IN),
            hung_up: seen.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
        })
    }

    /// Polls with the wake's own descriptor first, and drains it. Returns whether it was woken.
    fn sleep(&self, fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(fds, left.as_ref()) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let woken = fds.first().is_some_and(|own| own.revents().contains(PollFlags::IN));
        if woken {
            let mut count = [0; 64];
            let _ = rustix::io::read(&self.ends()?.read, &mut count);
            // From here on a wake writes again. The caller looks for its reason after this.
            self.woken.store(false, Ordering::SeqCst);
        }
        Ok(woken)
    }
}

impl std::task::Wake for Wake {
    fn wake(self: Arc<Self>) {
        Wake::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Wake::wake(self);
    }
}
