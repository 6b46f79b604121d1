package server

import "net/http"

func (s *Server) enarx(w http.ResponseWriter, r *http.Request) {}
