package api

func (s *Server) queryRoutes() error    { return nil }
func (s *Server) feedRoutes() error     { return nil }
func (s *Server) metadataRoute() error  { return nil }
func (s *Server) adminRoutes() error    { return nil }
func (s *Server) healthRoutes() error   { return nil }
func (s *Server) documentRoutes() error { return nil }

var errNotModified = error(nil)
