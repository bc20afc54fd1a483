//! What row types are made of: their definition, and columns that hold lists.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Database, Decode, Encode, Type};
use std::ops::Deref;

/// A table's row type, its fields in the order of the columns.
macro_rules! table {
    (
        $(#[$doc:meta])*
        pub struct $name:ident: $table:literal by [$($key:ident),+] {
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)+
        }

        impl $crate::Table for $name {
            const NAME: &'static str = $table;
            const KEY: &'static [&'static str] = &[$(stringify!($key)),+];
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),+];

            fn key(&self) -> $crate::Key {
                vec![$(self.$key.clone()),+]
            }
        }
    };
}

/// Notes that an event changed a row that admins edit, if it changed a field that they can write.
macro_rules! stamp {
    ($row:expr, $recorded:expr) => {
        if $recorded.event.is_configuration() {
            $row.updated_at = gatekey_aggregates::values::micros($recorded.recorded_at);
            $row.revision = $recorded.sequence;
            $row.etag = $recorded.position;
        }
    };
}

pub(crate) use {stamp, table};

/// A list of texts in one column, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl Deref for Texts {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl<T: ToString> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().map(|item| item.to_string()).collect())
    }
}

impl serde::Serialize for Texts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(&self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<DB: Database> Type<DB> for Texts
where
    String: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        String::type_info()
    }

    fn compatible(column: &DB::TypeInfo) -> bool {
        String::compatible(column)
    }
}

impl<'q, DB: Database> Encode<'q, DB> for Texts
where
    String: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer<'q>) -> Result<IsNull, BoxDynError> {
        serde_json::to_string(&self.0)?.encode_by_ref(buffer)
    }
}

impl<'r, DB: Database> Decode<'r, DB> for Texts
where
    String: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(serde_json::from_str(&String::decode(value)?)?))
    }
}
