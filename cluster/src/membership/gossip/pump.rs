//! The task of the gossip: between the library, which keeps its state behind a lock, and views that
//! anybody may look at.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chitchat::{ChitchatHandle, ChitchatId, NodeState};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use zajil_model::lease::NodeId;
use zajil_model::time::{Clock, Mono};

use super::census::{self, Census};
use crate::membership::seeds::{SilentSeeds, TOLD_EVERY};
use crate::membership::{Peer, View, facts};
use crate::metrics::gossip::{GossipMetrics, Members};

/// How often metrics are brought up to date and seeds looked at.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Carries between the library and the rest of the node.
pub(super) struct Pump {
    library: ChitchatHandle,
    live: watch::Receiver<BTreeMap<ChitchatId, NodeState>>,
    said: watch::Receiver<Peer>,
    views: watch::Sender<View>,
    members: watch::Sender<Members>,
    metrics: GossipMetrics,
    clock: Arc<dyn Clock>,
    own: NodeId,
    seeds: SilentSeeds,
    told_of_strange_nodes: Option<Mono>,
}

impl Pump {
    /// The task, and where to look at what it finds.
    pub(super) async fn new(
        library: ChitchatHandle,
        said: watch::Receiver<Peer>,
        metrics: GossipMetrics,
        clock: Arc<dyn Clock>,
    ) -> (Self, watch::Receiver<View>, watch::Receiver<Members>) {
        let live = library.with_chitchat(|library| library.live_nodes_watcher());
        let (live, own) = (live.await, said.borrow().node);
        let (views, view) = watch::channel(View::default());
        let (members, counted) = watch::channel(Members::default());
        let pump = Self {
            library,
            live,
            said,
            views,
            members,
            metrics,
            clock,
            own,
            seeds: SilentSeeds::default(),
            told_of_strange_nodes: None,
        };
        (pump, view, counted)
    }

    /// Runs until it is stopped, its [`Gossip`](super::Gossip) is gone, or the library ends. The
    /// view is closed last: who waits for that may open the socket again.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut tick = interval(REPORT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = pin!(self.library.termination_watcher());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                end = &mut ended => {
                    error!(end = ?end, "gossip ended: this node hears of no peers until it is started again");
                    break;
                }
                Ok(()) = self.live.changed() => self.look(),
                said = self.said.changed() => match said {
                    Ok(()) => self.say().await,
                    Err(_) => break,
                },
                _ = tick.tick() => self.report().await,
            }
        }
        self.views.send_replace(View::default());
        if let Err(end) = self.library.shutdown().await {
            debug!(%end, "gossip did not end well");
        }
    }

    /// The library found that others live than before, or say something new.
    fn look(&mut self) {
        let live = self.live.borrow_and_update();
        let view = census::view(live.values(), self.own);
        let before = self.views.borrow().clone();
        let (joined, left) = (difference(&view, &before), difference(&before, &view));
        for peer in &joined {
            info!(node = peer.node.0, incarnation = peer.incarnation.0, link = %peer.link, "peer is alive");
        }
        for peer in &left {
            info!(
                node = peer.node.0,
                incarnation = peer.incarnation.0,
                "peer is silent"
            );
        }
        self.metrics.changed(joined.len(), left.len());
        if view != before {
            self.views.send_replace(view);
        }
    }

    /// This node has something new to say.
    async fn say(&mut self) {
        let texts = facts::written(&self.said.borrow_and_update());
        let set = self.library.with_chitchat(|library| {
            // What stays the same is not sent again: the library compares.
            for (key, text) in &texts {
                library.self_node_state().set(key, text);
            }
        });
        set.await;
    }

    async fn report(&mut self) {
        let own = self.own;
        let census = self
            .library
            .with_chitchat(|library| Census::take(library, own));
        let census = census.await;
        self.members.send_replace(census.members);
        self.metrics.members(census.members, census.detection);
        let fingerprint = census::fingerprint(&self.views.borrow(), &self.said.borrow());
        self.metrics.view(fingerprint);
        for seed in self.seeds.due(&census.silent_seeds, self.clock.mono()) {
            warn!(%seed, "seed does not answer; it is tried on");
        }
        self.tell_of_strange_nodes(&census);
    }

    /// Once a minute: what is wrong stays so for long, and is looked at each second.
    fn tell_of_strange_nodes(&mut self, census: &Census) {
        let now = self.clock.mono();
        let told = self.told_of_strange_nodes;
        if told.is_some_and(|told| now.since(told) < TOLD_EVERY) {
            return;
        }
        if let Some((peer, why)) = &census.unreadable {
            warn!(%peer, %why, "peer is heard and does not count as alive");
            self.told_of_strange_nodes = Some(now);
        }
        if let Some(peer) = census.twin {
            warn!(%peer, node = self.own.0, "another node has the name of this one: is its data folder a copy?");
            self.told_of_strange_nodes = Some(now);
        }
    }
}

/// The lives that are in one view and not in the other.
fn difference(view: &View, other: &View) -> Vec<Peer> {
    let here = |peer: &&Peer| {
        other.get(peer.node).map(|known| known.incarnation) != Some(peer.incarnation)
    };
    view.iter().filter(here).cloned().collect()
}
