//! What every aggregate of GateKey offers beyond `cqrs_es::Aggregate`.

use crate::Claim;
use cqrs_es::{Aggregate, DomainEvent};

/// An event with a code and a kind.
pub trait Fact: DomainEvent {
    /// The stable code, such as `gateway.updated`: `<aggregate type>.<what happened>`.
    fn code(&self) -> &'static str;

    /// Whether it changed a field that an admin can write. Only such events move a resource's
    /// `ETag`; a gateway that came online is not a change to somebody's edit form.
    fn is_configuration(&self) -> bool {
        true
    }
}

/// How a refusal is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no such thing, or no longer.
    NotFound,
    /// It makes no sense in the present state.
    Conflict,
    /// The command itself is wrong.
    Invalid,
    /// The state forbids it to this caller.
    Forbidden,
}

/// Why a command was refused.
pub trait Refusal: std::error::Error + Send + Sync + 'static {
    /// Stable, snake_case: the `code` of the error answer.
    fn code(&self) -> &'static str;
    /// How to answer it.
    fn kind(&self) -> RefusalKind;
    /// The field at fault, where there is one.
    fn field(&self) -> Option<&'static str> {
        None
    }
}

/// An aggregate as the command bus runs it.
pub trait Root:
    Aggregate<
        Services = (),
        Event: Fact + Into<crate::Event>,
        Error: Refusal,
        Command: Clone + Send + Sync,
    > + Clone
    + 'static
{
    /// Whether the thing exists now: created and not deleted.
    fn exists(&self) -> bool;

    /// What must be unique or disjoint while the state is this one; `id` is the aggregate's id,
    /// which a state does not know. The command bus takes the claims that a command adds and
    /// releases those that it drops, in the same transaction.
    fn claims(&self, _id: &str) -> Vec<Claim> {
        Vec::new()
    }
}

/// Implements `cqrs_es::Aggregate` for a type of this module by its `decide` (command to events,
/// or a refusal) and its `evolve` (event to state).
macro_rules! aggregate {
    ($name:ident, $type:literal) => {
        impl cqrs_es::Aggregate for $name {
            const TYPE: &'static str = $type;
            type Command = Command;
            type Event = Event;
            type Error = Error;
            type Services = ();

            async fn handle(
                &mut self,
                command: Command,
                (): &(),
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), Error> {
                for event in self.decide(command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: Event) {
                self.evolve(event);
            }
        }

        impl cqrs_es::DomainEvent for Event {
            fn event_type(&self) -> String {
                crate::Fact::code(self).to_owned()
            }

            fn event_version(&self) -> String {
                crate::event::version_of(crate::Fact::code(self)).to_owned()
            }
        }
    };
}
