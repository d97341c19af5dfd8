//! The store from outside: order, durability, the past, damage, a full disk.
