//! The built-in web server image.
