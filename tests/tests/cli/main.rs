//! The command line: configuration file, options, invalid input, output and messages.

mod config_file;
mod device_option;
mod errors;
mod flow_options;
mod invalid_input;
mod messages;
mod output;
