//! What a person types: files, options and wrong input; and what causeway prints.

mod config_file;
mod device_option;
mod flow_options;
mod invalid_input;
mod messages;
mod output;
