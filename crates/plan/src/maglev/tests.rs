//! Balance, disruption and agreement of Maglev tables.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

type Backend = (IpAddr, u16);

fn backend() -> impl Strategy<Value = Backend> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
    (prop_oneof![v4, v6], 1_u16..)
}

/// Neighbours in a pod network, as they come in practice, or any.
fn backends(number: usize) -> impl Strategy<Value = Vec<Backend>> {
    let neighbours = (any::<u16>(), 1_u16..).prop_map(move |(net, port)| {
        let [high, low] = net.to_be_bytes();
        (0..number as u32)
            .map(|i| ([10, high, low.wrapping_add((i >> 8) as u8), i as u8].into(), port))
            .collect()
    });
    let any = prop::collection::btree_set(backend(), number).prop_map(|set| set.into_iter().collect());
    prop_oneof![neighbours, any]
}

fn load(table: &[u16], backends: usize) -> Vec<usize> {
    let mut load = vec![0; backends];
    table.iter().for_each(|index| load[usize::from(*index)] += 1);
    load
}

/// Who has each entry.
fn holders(backends: &[Backend], table: &[u16]) -> Vec<Backend> {
    table.iter().map(|index| backends[usize::from(*index)]).collect()
}

/// How many entries have another backend once the one at `gone` is removed.
fn moved(backends: &[Backend], gone: usize, size: u32) -> usize {
    let mut rest = backends.to_vec();
    rest.remove(gone);
    let before = holders(backends, &table(backends, size));
    let after = holders(&rest, &table(&rest, size));
    before.iter().zip(&after).filter(|(before, after)| before != after).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn load_is_even(backends in backends(100)) {
        let load = load(&table(&backends, 65537), 100);
        let most = load.iter().max().copied().unwrap_or_default();
        prop_assert!(most as f64 <= 1.02 * 65537.0 / 100.0, "{load:?}");
        let least = load.iter().min().copied().unwrap_or_default();
        prop_assert!(least as f64 >= 0.5 * 65537.0 / 100.0, "{load:?}");
    }

    #[test]
    fn a_backend_that_goes_takes_little_else_along(backends in backends(100), gone in any::<Index>()) {
        let moved = moved(&backends, gone.index(100), 65537);
        prop_assert!(moved as f64 <= 1.2 * 65537.0 / 100.0, "{moved} entries moved");
    }

    #[test]
    fn the_order_of_backends_does_not_matter(
        (sorted, shuffled) in (1_usize..200).prop_flat_map(backends).prop_flat_map(|backends| {
            (Just(backends.clone()), Just(backends).prop_shuffle())
        })
    ) {
        let size = table_size(sorted.len());
        let one = holders(&sorted, &table(&sorted, size));
        prop_assert_eq!(one, holders(&shuffled, &table(&shuffled, size)));
    }

    #[test]
    fn whatever_the_size_every_entry_has_a_backend(
        backends in prop::collection::vec(backend(), 0..50), size in 0_u32..2000
    ) {
        let table = table(&backends, size);
        prop_assert_eq!(table.len(), if backends.is_empty() { 0 } else { size as usize });
        prop_assert!(table.iter().all(|index| usize::from(*index) < backends.len()));
    }
}

#[test]
fn there_are_a_hundred_entries_per_backend() {
    let sizes = [0, 1, 2, 3, 10, 11, 40, 41, 160, 161, 655, 100_000].map(table_size);
    assert_eq!(sizes, [0, 251, 251, 1021, 1021, 4093, 4093, 16381, 16381, 65537, 65537, 65537]);
    let prime = |size: u32| (2..size).take_while(|d| d * d <= size).all(|d| !size.is_multiple_of(d));
    assert!(SIZES.iter().all(|(_, size)| prime(*size)));
}

/// At every size that is used, with as many backends as it is for.
#[test]
fn no_backend_exceeds_its_share() {
    for (number, size) in [(2, 251), (10, 1021), (40, 4093), (160, 16381), (655, 65537)] {
        let backends: Vec<Backend> =
            (0..number).map(|i: u32| ((0x0af4_0000 + i).to_be_bytes().into(), 80)).collect();
        let load = load(&table(&backends, size), backends.len());
        let allowed = size.div_ceil(number).max(size * 102 / (100 * number)) as usize;
        assert!(load.iter().all(|entries| (1..=allowed).contains(entries)), "{number} backends: {load:?}");
    }
}

#[test]
fn more_backends_than_an_index_can_name_are_left_out() {
    let backends: Vec<Backend> = (0..70_000_u32).map(|i| (i.to_be_bytes().into(), 80)).collect();
    let table = table(&backends, 65537);
    assert!(table.iter().all(|index| usize::from(*index) < MOST_BACKENDS));
    assert!(table.iter().collect::<BTreeSet<_>>().len() > 40_000);
}

/// Nodes of different versions must agree: this never changes.
#[test]
fn a_table_is_the_same_for_ever() {
    let v6: IpAddr = "fd00:244::7".parse().expect("an address");
    let backends = [([10, 244, 1, 2].into(), 8080), ([10, 244, 2, 2].into(), 8080), (v6, 443)];
    let expected =
        [2, 2, 2, 2, 2, 0, 2, 1, 1, 1, 1, 0, 0, 1, 1, 2, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 2, 2];
    assert_eq!(table(&backends, 31), expected);
}
