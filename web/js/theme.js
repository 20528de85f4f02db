// Applies the reader's choice of colours before the first paint. A classic script, because modules run later.
// Must never do anything else.
try {
  document.documentElement.dataset.theme = localStorage.getItem('muster-theme') || 'auto';
} catch {
  document.documentElement.dataset.theme = 'auto';
}
