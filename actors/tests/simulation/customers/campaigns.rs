//! Who runs campaigns: brings their rows a few at a time and again where the answer got lost, starts,
//! pauses and cancels them, and looks whether they are over, at whichever node.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use zajil_actors::batch::BatchError;
use zajil_model::batch::{BatchState, Command};
use zajil_model::id::{AccountId, Shard};

use super::campaign::Campaign;
use super::desk::Desk;
use crate::rare::Rare;
use crate::world::TICK;

/// How long whoever asks waits, in seconds: shorter and longer than what nodes wait for each other.
const PATIENCE: std::ops::Range<u64> = 2..20;

/// Rows that are brought at once.
const CHUNK: std::ops::Range<u64> = 1..8;

/// The epoch of a shard, as the database has it.
pub(crate) type Epochs<'a> = &'a dyn Fn(Shard) -> u64;

/// What comes next in the life of a campaign.
enum Next {
    Upload,
    Steer(Command),
    Look,
}

impl Campaign {
    /// Somebody does something for it at this node. In `peace` it is brought to its end.
    pub(super) fn go_on(
        &self,
        (desk, account): (Desk, AccountId),
        handle: &tokio::runtime::Handle,
        random: &mut SmallRng,
        (now, peace, epochs): (Duration, bool, Epochs<'_>),
    ) {
        let until = now + Duration::from_secs(random.random_range(PATIENCE));
        let epoch = epochs(self.id.shard());
        let campaign = self.clone();
        match self.next(random, peace, now) {
            Some(Next::Upload) => {
                let upload = self.begin_upload(random, until, epoch, &desk);
                handle.spawn(async move { desk.upload(account, campaign, upload).await });
            }
            Some(Next::Steer(command)) => {
                let turn = self.begin_to_steer(command, (now, until), &desk);
                handle.spawn(async move { desk.steer(account, campaign, command, turn).await });
            }
            Some(Next::Look) => {
                let turn = self.notes.lock().steering.begin(until);
                handle.spawn(async move { desk.look(account, campaign, turn).await });
            }
            None => {}
        }
    }

    fn next(&self, random: &mut SmallRng, peace: bool, now: Duration) -> Option<Next> {
        let plan = &self.plan;
        let notes = self.notes.lock();
        let dice = random.random_range(0..100);
        let is_due = plan.cancels_at.is_some_and(|at| notes.answered >= at);
        let (uploads, steers) = (!notes.uploading.is_out(now), !notes.steering.is_out(now));
        if notes.ended.is_some() {
            return None;
        }
        if steers {
            let command = if is_due && notes.is_started && (peace || dice < 40) {
                Some(Command::Cancel)
            } else if !notes.is_started && notes.answered >= plan.starts_at && dice < 50 {
                Some(Command::Start)
            } else if notes.is_started && !peace && dice < 12 {
                Some([Command::Pause, Command::Resume][usize::from(notes.paused)])
            } else if notes.is_started && peace && notes.paused {
                Some(Command::Resume)
            } else if notes.answered == plan.rows && !notes.sealed {
                Some(Command::Seal)
            } else {
                None
            };
            if let Some(command) = command {
                return Some(Next::Steer(command));
            }
        }
        // Who was not answered may bring rows again that were all dealt with.
        if uploads && (notes.answered < plan.rows || notes.unanswered) && !notes.sealed {
            return Some(Next::Upload);
        }
        steers.then_some(Next::Look)
    }

    fn begin_upload(
        &self,
        random: &mut SmallRng,
        until: Duration,
        epoch: u64,
        desk: &Desk,
    ) -> Upload {
        let mut notes = self.notes.lock();
        let back = random.random_bool(0.2).then(|| random.random_range(CHUNK));
        let from = notes.next.saturating_sub(back.unwrap_or(0));
        let mut chunks = Vec::new();
        let mut to = from;
        while to < self.plan.rows && chunks.len() < 3 {
            let rows = random.random_range(CHUNK);
            let chunk = rows.min(self.plan.rows - to);
            let pause = Duration::from_millis(random.random_range(0..700));
            to += chunk;
            chunks.push((chunk, pause));
        }
        let reached = &desk.oracle.reached;
        if notes.unanswered {
            reached.note(Rare::ChunkRepeated);
            if notes.brought_under != epoch {
                reached.note(Rare::ParentMovedWhileFilling);
            }
        }
        notes.brought_under = epoch;
        if from < notes.answered && notes.answered_under != epoch {
            reached.note(Rare::RowsRepeatedAfterTakeOver);
        }
        notes.unanswered = true;
        notes.asked = notes.asked.max(to);
        let turn = notes.uploading.begin(until);
        Upload {
            from,
            chunks,
            turn,
            epoch,
        }
    }

    fn begin_to_steer(
        &self,
        command: Command,
        (now, until): (Duration, Duration),
        desk: &Desk,
    ) -> u64 {
        let mut notes = self.notes.lock();
        match command {
            Command::Start => drop(notes.started_at.get_or_insert(now)),
            Command::Pause => notes.paused = true,
            Command::Resume => {
                notes.paused = false;
                if let Some((_, end)) = notes.pauses.last_mut() {
                    end.get_or_insert(now);
                }
            }
            Command::Cancel if notes.uploading.is_out(now) => {
                desk.oracle.reached.note(Rare::CancelWhileFilling);
            }
            Command::Cancel | Command::Seal => {}
        }
        notes.steering.begin(until)
    }
}

/// A resumption is being asked for, until it is answered or the process ends that asks.
struct Resuming {
    desk: Desk,
    campaign: Campaign,
}

impl Resuming {
    fn begin(desk: &Desk, campaign: &Campaign) -> Self {
        campaign.notes.lock().resuming += 1;
        Self {
            desk: desk.clone(),
            campaign: campaign.clone(),
        }
    }
}

impl Drop for Resuming {
    fn drop(&mut self) {
        let mut notes = self.campaign.notes.lock();
        notes.resuming -= 1;
        // A process that ends has no time of its own any more; that of the world is a tick behind.
        notes.resumed_at = self.desk.oracle.now() + TICK;
    }
}

/// Rows on their way.
pub(super) struct Upload {
    from: u64,
    /// How many rows at once, and how long it takes until there are more.
    chunks: Vec<(u64, Duration)>,
    turn: u64,
    /// The epoch of the campaign's shard when it began.
    epoch: u64,
}

impl Desk {
    async fn upload(&self, account: AccountId, campaign: Campaign, upload: Upload) {
        let (turn, epoch) = (upload.turn, upload.epoch);
        let brought = self.bring(account, &campaign, upload).await;
        self.says(|| format!("campaign {}: upload {turn}: {brought:?}", campaign.number));
        let mut notes = campaign.notes.lock();
        let last = notes.uploading.end(turn);
        if !last {
            return;
        }
        match brought {
            Ok(()) => {
                notes.unanswered = false;
                notes.answered_under = epoch;
                notes.next = notes.answered;
            }
            Err(BatchError::RowGap { expected }) => notes.next = expected,
            Err(BatchError::TakesNoRows) => notes.unanswered = false,
            Err(_) => {}
        }
    }

    async fn bring(
        &self,
        account: AccountId,
        campaign: &Campaign,
        upload: Upload,
    ) -> Result<(), BatchError> {
        let batches = self.engine.batches();
        let mut next = upload.from;
        let mut under_way = batches.upload(account, campaign.id, next).await?;
        for (count, pause) in upload.chunks {
            let rows = (next..next + count).map(|row| Ok(campaign.row(row)));
            let began = self.now();
            let progress = under_way.append_rows(rows.collect()).await?.progress;
            next += count;
            self.rows_are_taken(campaign, (next, began), progress.rows_received);
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// The rows before `next`, which were on their way since `began`, were answered as dealt with.
    fn rows_are_taken(&self, campaign: &Campaign, (next, began): (u64, Duration), received: u64) {
        let number = campaign.number;
        self.says(|| format!("campaign {number}: {received} rows are there"));
        let mut notes = campaign.notes.lock();
        if received < next {
            let what = format!("campaign {number}: {next} rows are there, and {received} are");
            self.oracle.wrong(&what);
        }
        if notes.cancelled_at.is_some_and(|at| at < began) && received > notes.answered {
            let what = format!("campaign {number}: rows are taken after it was cancelled");
            self.oracle.wrong(&what);
        }
        notes.answered = notes.answered.max(received);
        notes.next = notes.next.max(received);
    }

    async fn steer(&self, account: AccountId, campaign: Campaign, command: Command, turn: u64) {
        let batches = self.engine.batches();
        let began = self.now();
        let resuming = (command == Command::Resume).then(|| Resuming::begin(self, &campaign));
        let changed = batches.change(account, campaign.id, command).await;
        drop(resuming);
        let number = campaign.number;
        let answer = changed.map(|it| (it.view.record.life.state, it.barrier.is_confirmed()));
        self.says(|| format!("campaign {number}: {command:?}: {answer:?}"));
        if matches!(answer, Ok((_, false))) {
            self.oracle.reached.note(Rare::PartNotConfirmed);
        }
        let mut notes = campaign.notes.lock();
        let last = notes.steering.end(turn);
        match (command, answer) {
            (Command::Cancel, Ok((_, true))) => {
                notes.cancelled_at.get_or_insert(self.now());
                notes.ended = Some(BatchState::Cancelled);
            }
            (Command::Cancel, Err(BatchError::WrongState(wrong))) => {
                notes.ended = Some(wrong.state)
            }
            (Command::Seal, Ok(_)) => notes.sealed = true,
            // It was paused or cancelled meanwhile: so it was started.
            (Command::Start, Ok(_) | Err(BatchError::WrongState(_))) => notes.is_started = true,
            (Command::Pause, Ok((BatchState::Paused, true)))
                if last && notes.paused && notes.resuming == 0 && notes.resumed_at < began =>
            {
                notes.pauses.push((self.now(), None));
                self.oracle.reached.note(Rare::CampaignPaused);
            }
            _ => {}
        }
    }

    async fn look(&self, account: AccountId, campaign: Campaign, turn: u64) {
        let viewed = self.engine.batches().view(account, campaign.id).await;
        let mut notes = campaign.notes.lock();
        let last = notes.steering.end(turn);
        let Ok(view) = viewed else { return };
        let state = view.record.life.state;
        if state == BatchState::Paused && last {
            // A pause that nobody waited for any more came through.
            notes.paused = true;
        }
        if state == BatchState::Finished {
            self.says(|| format!("campaign {}: {state}", campaign.number));
            self.oracle.reached.note(Rare::CampaignFinished);
            notes.ended = Some(state);
        }
    }
}
