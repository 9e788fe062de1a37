//! Templates: texts with variables. They never change, so memory may keep them.

use std::sync::Arc;

use zajil_model::id::{AccountId, TemplateId};
use zajil_model::message::limits::MAX_CONTENT;
use zajil_storage::{Condition, RowKey, RowWrite, Table, Written};

use super::records::{Page, PageRequest, Template};
use super::rows::{SCAN_ROWS, encode, load, number, owned, unique};
use super::{Directory, DirectoryError, check_length, count};

/// Templates that are kept in memory: a few megabytes.
pub(super) const REMEMBERED: usize = 5_000;

/// Templates of an account: they are counted by reading their partition.
const MAX_TEMPLATES: u64 = 10_000;

/// Characters of a name.
const MAX_NAME: usize = 255;

/// The kind of name that is unique in an account.
const NAME: &str = "template";

fn template_row(account: AccountId, id: TemplateId) -> RowKey {
    owned(Table::Templates, account, id.get())
}

impl Directory {
    /// Makes a template; its name is unique in its account.
    ///
    /// # Errors
    /// `Field` when name or content cannot be, or the name is taken.
    pub async fn create_template(
        &self,
        account: AccountId,
        name: &str,
        content: &str,
    ) -> Result<Arc<Template>, DirectoryError> {
        check_length("name", name, 1, MAX_NAME)?;
        check_length("content", content, 1, MAX_CONTENT)?;
        if self.template_count(account).await? >= MAX_TEMPLATES {
            let message = format!("An account has at most {MAX_TEMPLATES} templates.");
            return Err(DirectoryError::Field {
                field: "name",
                message,
            });
        }
        let template = Arc::new(Template {
            id: self.inner.ids.give().await?,
            name: name.to_owned(),
            content: content.to_owned(),
            created_at: self.now(),
        });
        let id = number(template.id.get()).to_vec();
        let row = template_row(account, template.id);
        let writes = vec![
            RowWrite::put(unique(NAME, Some(account), name.as_bytes()), id).when(Condition::Absent),
            RowWrite::put(row, encode(&*template)).when(Condition::Absent),
        ];
        match self.store().write(writes).await? {
            Written::Applied => Ok(template),
            Written::Conflict { .. } => Err(DirectoryError::taken("name")),
        }
    }

    /// A template.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn template(
        &self,
        account: AccountId,
        id: TemplateId,
    ) -> Result<Option<Arc<Template>>, DirectoryError> {
        let known = &self.inner.templates;
        if let Some(template) = known.get(&(account, id)) {
            return Ok(Some(template));
        }
        let mark = known.mark();
        let row = template_row(account, id);
        let stored: Option<Template> = load(self.store(), "template", &row).await?;
        let template = stored.map(Arc::new);
        if let Some(template) = &template {
            known.put_read(mark, (account, id), Arc::clone(template));
        }
        Ok(template)
    }

    /// Templates, newest first, with an exact total.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn templates(
        &self,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<Template>, DirectoryError> {
        let items = self
            .newest(Table::Templates, "template", account, page)
            .await?;
        Ok(Page {
            items,
            total: self.template_count(account).await?,
        })
    }

    async fn template_count(&self, account: AccountId) -> Result<u64, DirectoryError> {
        Ok(count(self.store(), Table::Templates, account, SCAN_ROWS).await?)
    }
}
