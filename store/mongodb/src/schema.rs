//! Collections and indexes, made and checked at the start.

use model::Collection;
use model::resource::Index;
use mongodb::bson::{Document as Fields, doc};
use mongodb::options::IndexOptions;
use mongodb::{Database, IndexModel};

use crate::commit::FENCES;
use crate::failure::{OpenError, code, unavailable};

/// Of the stored form; a newer one is refused.
const FORMAT: i64 = 1;
/// Other options, or other keys, under the same name.
const INDEX_CONFLICTS: [i32; 3] = [85, 86, 68];
/// NamespaceExists.
const EXISTS: i32 = 48;

pub(crate) fn index_name(index: &Index) -> String {
    format!("{}_{}", if index.unique { "u" } else { "i" }, index.fields.join("_"))
}

/// Unique indexes hold documents that have all their fields; others end with the id, which makes ties stand in order.
fn model_of(index: &Index) -> IndexModel {
    let mut keys = Fields::new();
    let mut present = Fields::new();
    for field in index.fields {
        keys.insert(format!("k_{field}"), 1);
        present.insert(format!("k_{field}"), doc! {"$exists": true});
    }
    let mut options = IndexOptions::default();
    options.name = Some(index_name(index));
    if index.unique {
        options.unique = Some(true);
        options.partial_filter_expression = Some(present);
    } else {
        keys.insert("_id", 1);
    }
    IndexModel::builder().keys(keys).options(options).build()
}

/// Makes what is missing. Several nodes may do so at once.
pub(crate) async fn prepare(
    database: &Database,
    prefix: &str,
    collections: &[&'static Collection],
) -> Result<(), OpenError> {
    let hello = database.run_command(doc! {"hello": 1}).await.map_err(|error| unavailable(&error))?;
    if !hello.contains_key("setName") {
        return Err(OpenError::NotAReplicaSet);
    }
    check_format(database, prefix).await?;
    create(database, &format!("{prefix}.{FENCES}")).await?;
    for collection in collections {
        let full = format!("{prefix}.{}", collection.name);
        create(database, &full).await?;
        for index in collection.indexes {
            make(database, &full, index).await?;
        }
    }
    let chunks = database.collection::<Fields>(&format!("{prefix}.squall_blob_chunks"));
    let model = IndexModel::builder().keys(doc! {"upload": 1, "seq": 1}).build();
    chunks.create_index(model).await.map_err(|error| unavailable(&error))?;
    Ok(())
}

/// Made before any transaction needs it.
async fn create(database: &Database, full: &str) -> Result<(), OpenError> {
    match database.create_collection(full).await {
        Ok(()) => Ok(()),
        Err(error) if code(&error) == Some(EXISTS) => Ok(()),
        Err(error) => Err(unavailable(&error).into()),
    }
}

async fn make(database: &Database, full: &str, index: &Index) -> Result<(), OpenError> {
    let made = database.collection::<Fields>(full).create_index(model_of(index)).await;
    match made {
        Ok(_) => Ok(()),
        Err(error) if code(&error).is_some_and(|code| INDEX_CONFLICTS.contains(&code)) => {
            Err(OpenError::Index { collection: full.to_owned(), index: index_name(index), reason: error.to_string() })
        }
        Err(error) => Err(unavailable(&error).into()),
    }
}

async fn check_format(database: &Database, prefix: &str) -> Result<(), OpenError> {
    let meta = database.collection::<Fields>(&format!("{prefix}.squall_meta"));
    let update = doc! {"$setOnInsert": {"format": FORMAT}};
    let failed = |error: mongodb::error::Error| unavailable(&error);
    meta.update_one(doc! {"_id": "format"}, update).upsert(true).await.map_err(failed)?;
    let found = meta.find_one(doc! {"_id": "format"}).await.map_err(failed)?;
    let found = found.and_then(|fields| fields.get_i64("format").ok()).unwrap_or(FORMAT);
    if found > FORMAT { Err(OpenError::Format { found, known: FORMAT }) } else { Ok(()) }
}
