//! Compares the recorded catalogue that the fuzz targets plan against with the real one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tercet_api::schema::SchemaCache;
use tercet_postgres::{Connection, Target};

use crate::service::on_one_thread;
use crate::{bookshop, replay};

fn load(folder: &Path) -> SchemaCache {
    let target = format!("host={} port=5432 user=postgres dbname=shop", folder.display());
    on_one_thread(async {
        let target = Arc::new(Target::parse(&target, &BTreeMap::new()).unwrap());
        let connection = Connection::connect(&target, false).await.unwrap();
        SchemaCache::load(&connection, &["shop".to_owned()]).await.unwrap()
    })
}

/// The names a request can use.
fn names(cache: &SchemaCache) -> String {
    let relations: Vec<_> = cache
        .relations("shop")
        .map(|relation| {
            (&relation.name, relation.columns.iter().map(|it| (&it.name, &it.data_type)).collect::<Vec<_>>())
        })
        .collect();
    let routines: Vec<_> =
        cache.all_routines("shop").map(|routine| (&routine.name, &routine.parameters)).collect();
    format!("{:?} {relations:?} {routines:?}", cache.counts())
}

/// `UPDATE_EXPECT` records it again.
#[test]
fn the_recorded_catalogue_is_current() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/catalogue.bin");
    let database = bookshop::database();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let folder = tempfile::tempdir().unwrap();
        let socket = database.psql(
            "select current_setting('unix_socket_directories') || '/.s.PGSQL.' || current_setting('port')",
        );
        let recorded = {
            let recording = replay::record(folder.path(), Path::new(&socket));
            let text =
                format!("host={} port=5432 user=postgres dbname={}", folder.path().display(), database.name);
            on_one_thread(async {
                let target = Arc::new(Target::parse(&text, &BTreeMap::new()).unwrap());
                let connection = Connection::connect(&target, false).await.unwrap();
                SchemaCache::load(&connection, &["shop".to_owned()]).await.unwrap();
            });
            recording.join().unwrap()
        };
        std::fs::write(&file, recorded).unwrap();
    }
    let recording: &'static [u8] = std::fs::read(&file).unwrap().leak();
    let folder = tempfile::tempdir().unwrap();
    replay::play(folder.path(), recording);
    assert_eq!(
        names(&load(folder.path())),
        names(bookshop::cache()),
        "hint: UPDATE_EXPECT=1 records it again"
    );
}
