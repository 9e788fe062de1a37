//! What accounts have and ask for, on a store in memory: directory, idempotency keys, windows of API
//! keys, batches.

#[cfg(test)]
mod batches;
#[cfg(test)]
mod campaign;
#[cfg(test)]
mod contacts;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod ids;
#[cfg(test)]
mod instances;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod logins;
#[cfg(test)]
mod owners;
#[cfg(test)]
mod support;
#[cfg(test)]
mod uploads;
#[cfg(test)]
mod windows;
