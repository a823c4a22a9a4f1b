//! A vector on its way to the server, in the binary form of the extension: the number of
//! dimensions, two bytes of nothing, and each number of four bytes, all big-endian (pgvector,
//! `src/vector.c`, `vector_recv`).

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// The numbers of a vector.
#[derive(Debug)]
pub(super) struct Numbers<'a>(pub(super) &'a [f32]);

impl ToSql for Numbers<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u16(u16::try_from(self.0.len())?);
        out.put_u16(0);
        for number in self.0 {
            out.put_f32(*number);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}
