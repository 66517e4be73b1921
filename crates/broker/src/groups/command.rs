//! What a coordinator is asked, and how its answer travels back.

use strom_groups::{Coordinator, Event, Reply, RequestId};
use strom_types::ErrorCode;
use tokio::sync::oneshot;

pub(super) type Answer = Result<Reply, ErrorCode>;
type Make = Box<dyn FnOnce(RequestId) -> Event + Send>;
type Look = Box<dyn FnOnce(Result<&Coordinator, ErrorCode>) + Send>;

pub(super) enum Command {
    /// An event that is answered, now or much later. Nobody listens any more when the caller has gone away.
    Request {
        make: Make,
        answer: oneshot::Sender<Answer>,
    },
    /// A look at the state.
    Look(Look),
    TopicsDeleted(Vec<String>),
}

impl Command {
    pub(super) fn request(
        make: impl FnOnce(RequestId) -> Event + Send + 'static,
    ) -> (Command, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        let make = Box::new(make);
        (Command::Request { make, answer }, receiver)
    }

    pub(super) fn look<T: Send + 'static>(
        look: impl FnOnce(&Coordinator) -> T + Send + 'static,
    ) -> (Command, oneshot::Receiver<Result<T, ErrorCode>>) {
        let (sender, receiver) = oneshot::channel();
        let look = move |coordinator: Result<&Coordinator, ErrorCode>| {
            // The caller may be gone.
            let _ = sender.send(coordinator.map(look));
        };
        (Command::Look(Box::new(look)), receiver)
    }

    pub(super) fn refuse(self, error: ErrorCode) {
        match self {
            Command::Request { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Command::Look(look) => look(Err(error)),
            Command::TopicsDeleted(_) => {}
        }
    }
}
