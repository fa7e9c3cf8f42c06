//! Waking a thread that sleeps on a socket: a descriptor that is polled beside it. On Linux an
//! eventfd, elsewhere a pipe.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Whoever waits with it, [`Wake::wake`] ends that wait, or the next if there is none.
pub struct Wake {
    read: OwnedFd,
    /// The other end, where that is another descriptor.
    #[cfg(not(target_os = "linux"))]
    write: OwnedFd,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Woken {
    /// The socket has something to read, or its end.
    pub readable: bool,
    /// The socket is broken, or closed in both directions.
    pub hung_up: bool,
}

impl Wake {
    #[cfg(target_os = "linux")]
    pub fn new() -> io::Result<Arc<Wake>> {
        use rustix::event::{EventfdFlags, eventfd};
        let read = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Wake { read }))
    }

    #[cfg(not(target_os = "linux"))]
    pub fn new() -> io::Result<Arc<Wake>> {
        let (read, write) = rustix::pipe::pipe()?;
        for end in [&read, &write] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Arc::new(Wake { read, write }))
    }

    /// Ends the wait. A wake that is full already wakes as well.
    pub fn wake(&self) {
        #[cfg(target_os = "linux")]
        let end = &self.read;
        #[cfg(not(target_os = "linux"))]
        let end = &self.write;
        let _ = rustix::io::write(end, &1u64.to_ne_bytes());
    }

    /// Sleeps until woken, or for `timeout`.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.sleep(&mut [PollFd::new(&self.read, PollFlags::IN)], timeout)
    }

    /// Sleeps until woken, until the socket has something to read, or for `timeout`.
    pub fn wait_readable(
        &self,
        socket: &impl AsFd,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        self.wait_socket(socket, PollFlags::IN, timeout)
    }

    /// As [`Wake::wait_readable`], deaf to what there is to read.
    pub fn wait_hang_up(&self, socket: &impl AsFd, timeout: Option<Duration>) -> io::Result<Woken> {
        self.wait_socket(socket, PollFlags::empty(), timeout)
    }

    fn wait_socket(
        &self,
        socket: &impl AsFd,
        interest: PollFlags,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        let mut fds = [PollFd::new(&self.read, PollFlags::IN), PollFd::new(socket, interest)];
        self.sleep(&mut fds, timeout)?;
        let [_, socket] = &fds;
        let seen = socket.revents();
        Ok(Woken {
            readable: seen.contains(PollFlags::IN),
            hung_up: seen.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
        })
    }

    /// Polls, the wake's own descriptor first, and empties that.
    fn sleep(&self, fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
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
        if fds.first().is_some_and(|own| own.revents().contains(PollFlags::IN)) {
            let mut count = [0; 64];
            let _ = rustix::io::read(&self.read, &mut count);
        }
        Ok(())
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
