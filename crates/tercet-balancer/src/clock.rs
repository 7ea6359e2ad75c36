//! Deadlines for thousands of connections with one timer: a coarse clock, and one deadline per connection.
//!
//! A tokio timer per request would cost more than parsing the request. Here setting a deadline is one store, and every
//! [`TICK`] all deadlines, which are adjacent in memory, are compared with the clock. So a deadline expires up to two
//! ticks late, and never early.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

/// The resolution of deadlines.
pub(crate) const TICK: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;

/// A worker's clock.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Ticks since `started`, as of the last tick.
    now: Cell<u64>,
    slots: RefCell<Slots>,
    armed: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    deadlines: Vec<u64>,
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
    used: usize,
}

/// A deadline that can be set and cleared repeatedly.
#[derive(Debug)]
pub(crate) struct Deadline {
    clock: Rc<Clock>,
    slot: usize,
}

impl Clock {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            started: Instant::now(),
            now: Cell::new(0),
            slots: RefCell::default(),
            armed: Notify::new(),
        })
    }

    /// A new deadline, which is not set.
    pub(crate) fn deadline(self: &Rc<Self>) -> Deadline {
        let mut slots = self.slots.borrow_mut();
        slots.used += 1;
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.deadlines.push(NEVER);
            slots.wakers.push(None);
            slots.deadlines.len() - 1
        });
        if slots.used == 1 {
            self.now.set(self.read());
            self.armed.notify_one();
        }
        Deadline { clock: Rc::clone(self), slot }
    }

    /// Runs the clock; sleeps while there is no deadline object. `each_tick` runs on every tick and returns whether
    /// all waiting tasks have to be woken. Never returns.
    pub(crate) async fn run(&self, each_tick: impl Fn() -> bool) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.slots.borrow().used == 0 {
                self.armed.notified().await;
                interval.reset_immediately();
            }
            interval.tick().await;
            let wake_all = each_tick();
            self.tick(wake_all);
        }
    }

    fn tick(&self, wake_all: bool) {
        let now = self.read();
        self.now.set(now);
        let slots = &mut *self.slots.borrow_mut();
        for (deadline, waker) in slots.deadlines.iter().zip(&mut slots.wakers) {
            if (*deadline <= now || wake_all)
                && let Some(waker) = waker.take()
            {
                waker.wake();
            }
        }
    }

    /// The time of the last tick, without a system call: up to one [`TICK`] old while there is a deadline object.
    pub(crate) fn last_tick(&self) -> Instant {
        self.started + TICK * u32::try_from(self.now.get()).unwrap_or(u32::MAX)
    }

    fn read(&self) -> u64 {
        (self.started.elapsed().as_millis() / TICK.as_millis()) as u64
    }
}

impl Deadline {
    /// Sets the deadline to `after` from now, replacing the previous one.
    pub(crate) fn set(&self, after: Duration) {
        // One tick more, because the stored time may be up to one tick old.
        let ticks = after.as_millis().div_ceil(TICK.as_millis()) as u64 + 1;
        let mut slots = self.clock.slots.borrow_mut();
        slots.deadlines[self.slot] = self.clock.now.get().saturating_add(ticks);
    }

    /// Removes the deadline.
    pub(crate) fn clear(&self) {
        self.clock.slots.borrow_mut().deadlines[self.slot] = NEVER;
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(crate) fn expired(&self, context: &mut Context<'_>) -> bool {
        let slots = &mut *self.clock.slots.borrow_mut();
        if slots.deadlines[self.slot] <= self.clock.now.get() {
            return true;
        }
        match &mut slots.wakers[self.slot] {
            Some(waker) if waker.will_wake(context.waker()) => {}
            other => *other = Some(context.waker().clone()),
        }
        false
    }
}

impl Deadline {
    /// Runs an operation until the deadline.
    ///
    /// # Errors
    /// The operation's error, or `TimedOut`.
    pub(crate) async fn in_time<T>(&self, operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut operation = pin!(operation);
        poll_fn(|context| match operation.as_mut().poll(context) {
            Poll::Pending if self.expired(context) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            result => result,
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut slots = self.clock.slots.borrow_mut();
        slots.deadlines[self.slot] = NEVER;
        slots.wakers[self.slot] = None;
        slots.used -= 1;
        slots.free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_expires_at_most_two_ticks_late_and_never_early() {
        let clock = Clock::new();
        let run = clock.run(|| false);
        let wait = async {
            let deadline = clock.deadline();
            for after in [Duration::from_millis(1), Duration::from_millis(75), Duration::from_secs(7)] {
                deadline.set(Duration::from_secs(3600));
                deadline.set(after);
                let started = Instant::now();
                let expired = |context: &mut Context<'_>| {
                    if deadline.expired(context) { Poll::Ready(()) } else { Poll::Pending }
                };
                poll_fn(expired).await;
                let waited = started.elapsed();
                assert!(waited >= after && waited <= after + 2 * TICK, "{after:?} took {waited:?}");
                deadline.clear();
            }
        };
        tokio::select! { () = run => {}, () = wait => {} }
    }
}
