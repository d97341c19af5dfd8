//! Printed columns.
