// Before the page is drawn, so that it never shows in the wrong colours.
"use strict";
const theme = localStorage.getItem("rag_chat_theme");
if (theme) document.documentElement.dataset.theme = theme;
