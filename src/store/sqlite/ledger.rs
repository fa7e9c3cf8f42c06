//! The ledger: each topic's counts as the transaction at hand has them, with what they were before
//! it, in case it fails. Topics have the numbers 1, 2, 3 and so on.

use std::sync::Arc;

use crate::message::Id;
use crate::store::{Counts, Head};

#[derive(Default)]
pub struct Ledger {
    accounts: Vec<Account>,
    /// Accounts that were there when the transaction began.
    settled: usize,
    /// What the accounts that it changed were before.
    before: Vec<(usize, Counts, Id)>,
}

/// One topic's account.
pub struct Account {
    pub head: Arc<Head>,
    pub counts: Counts,
    /// The newest id that was put.
    pub newest: Id,
    /// Whether the transaction removed messages.
    pub removed: bool,
    changed: bool,
}

impl Ledger {
    /// The number of the next topic.
    pub fn next_number(&self) -> i64 {
        self.accounts.len() as i64 + 1
    }

    pub fn open(&mut self, head: Arc<Head>) {
        let counts = Counts::default();
        self.accounts.push(Account { head, counts, newest: 0, removed: false, changed: true });
    }

    /// A topic's account, to be changed.
    pub fn account(&mut self, number: i64) -> Option<&mut Account> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let account = self.accounts.get_mut(index)?;
        if !account.changed {
            account.changed = true;
            self.before.push((index, account.counts, account.newest));
        }
        Some(account)
    }

    /// After a commit: heads show what the transaction did.
    pub fn settle(&mut self, now: Id) {
        let new = self.settled..self.accounts.len();
        for index in self.before.drain(..).map(|(index, ..)| index).chain(new) {
            if let Some(account) = self.accounts.get_mut(index) {
                account.head.publish(account.counts, account.newest, account.removed, now);
                (account.changed, account.removed) = (false, false);
            }
        }
        self.settled = self.accounts.len();
    }

    /// After a failure: everything is as it was before the transaction.
    pub fn revert(&mut self) {
        for (index, counts, newest) in self.before.drain(..) {
            if let Some(account) = self.accounts.get_mut(index) {
                (account.counts, account.newest) = (counts, newest);
                (account.changed, account.removed) = (false, false);
            }
        }
        self.accounts.truncate(self.settled);
    }
}
