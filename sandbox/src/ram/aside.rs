//! Contents of evicted pages.

use std::collections::HashMap;

use super::PAGE_SIZE;

/// Page contents kept by page number.
#[derive(Debug, Default)]
pub(super) struct Aside {
    pages: HashMap<u64, Box<[u8; PAGE_SIZE]>>,
}

impl Aside {
    /// Keeps a page.
    pub fn put(&mut self, page: u64, content: Box<[u8; PAGE_SIZE]>) {
        self.pages.insert(page, content);
    }

    /// The content of a page, to look at.
    pub fn get(&self, page: u64) -> Option<&[u8; PAGE_SIZE]> {
        self.pages.get(&page).map(|content| &**content)
    }

    /// The content of a page, which goes back into memory.
    pub fn take(&mut self, page: u64) -> Option<Box<[u8; PAGE_SIZE]>> {
        self.pages.remove(&page)
    }

    /// Forgets a page.
    pub fn drop_page(&mut self, page: u64) {
        // Nothing is set aside in most runs, and many pages are dropped.
        if !self.pages.is_empty() {
            self.pages.remove(&page);
        }
    }
}
