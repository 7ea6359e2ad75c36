//! Time for thousands of connections with one timer: a coarse clock and a deadline for each connection.
//!
//! A tokio timer per request would cost more than the request's parsing. Here setting a deadline is one
//! store, and every [`TICK`] all deadlines, which lie side by side, are compared with the clock. Deadlines
//! are therefore met up to one tick late, never early.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

/// How exact deadlines are.
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

/// One connection's place on the clock.
#[derive(Debug)]
pub(crate) struct Watch {
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

    /// A watch without a deadline.
    pub(crate) fn watch(self: &Rc<Self>) -> Watch {
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
        Watch { clock: Rc::clone(self), slot }
    }

    /// Keeps the clock going; sleeps while nobody watches it. `each_tick` runs after every tick and says
    /// whether everybody must be woken.
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

    /// When the last tick was: the time without asking for it, up to one [`TICK`] old while anybody watches.
    pub(crate) fn last_tick(&self) -> Instant {
        self.started + TICK * u32::try_from(self.now.get()).unwrap_or(u32::MAX)
    }

    fn read(&self) -> u64 {
        (self.started.elapsed().as_millis() / TICK.as_millis()) as u64
    }
}

impl Watch {
    /// Sets the deadline `after` from now, replacing the one before.
    pub(crate) fn set(&self, after: Duration) {
        // Two ticks more: the one that is passing, and the one the stored time may already be behind.
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

impl Watch {
    /// Does something before the deadline.
    ///
    /// # Errors
    /// What it fails with, or the time is over.
    pub(crate) async fn in_time<T>(&self, doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut doing = pin!(doing);
        poll_fn(|context| match doing.as_mut().poll(context) {
            Poll::Pending if self.expired(context) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            settled_or_pending => settled_or_pending,
        })
        .await
    }
}

impl Drop for Watch {
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
    async fn a_deadline_passes_late_by_two_ticks_at_most_and_never_early() {
        let clock = Clock::new();
        let run = clock.run(|| false);
        let wait = async {
            let watch = clock.watch();
            for after in [Duration::from_millis(1), Duration::from_millis(75), Duration::from_secs(7)] {
                watch.set(Duration::from_secs(3600));
                watch.set(after);
                let started = Instant::now();
                poll_fn(|context| if watch.expired(context) { Poll::Ready(()) } else { Poll::Pending }).await;
                let waited = started.elapsed();
                assert!(waited >= after && waited <= after + 2 * TICK, "{after:?} took {waited:?}");
                watch.clear();
            }
        };
        tokio::select! { () = run => {}, () = wait => {} }
    }
}
